//! Errors of a run, and their exit codes.

use std::io;

use crate::actors::keeper_link::LinkError;
use crate::actors::quota::QuotaExceeded;
use crate::cli::input::InputError;
use crate::cli::invocation::Run;
use crate::cli::printing::unwritten_remedy;
use crate::cli::run_command::EXIT_INTERNAL;
use crate::net::tls;
use crate::{http, spec};

/// The name of standard output in errors.
pub(super) const STDOUT: &str = "standard output";

/// An error of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The path of `--output` is not writable; nothing was started.
    #[error("cannot write results to {to}: {source}{}", output_remedy(source))]
    Output {
        /// The destination.
        to: String,
        /// The reason.
        source: io::Error,
    },
    /// INPUT cannot be read.
    #[error(transparent)]
    Read(#[from] InputError),
    /// INPUT is not a valid spec; nothing was started.
    #[error("{}", spec_errors(input, errors))]
    Spec {
        /// The name of INPUT.
        input: String,
        /// All errors in it.
        errors: spec::SpecErrors,
    },
    /// INPUT exceeds a limit; nothing was started.
    #[error("{input}: {error}")]
    Quota {
        /// The name of INPUT.
        input: String,
        /// The limit.
        error: QuotaExceeded,
    },
    /// A certificate file is unusable.
    #[error("{setting}: {source}")]
    Cert {
        /// The setting that names it.
        setting: &'static str,
        /// The reason.
        source: tls::TlsError,
    },
    /// The HTTP service cannot listen on its TCP address, which the error names.
    #[error("{0}")]
    Listen(#[source] io::Error),
    /// Cannot listen on the configured HTTP socket.
    #[error("{0}")]
    Socket(#[source] io::Error),
    /// The HTTP service would admit clients that it must not admit.
    #[error("{0}")]
    ExposedAddress(#[from] http::ExposedAddress),
    /// The token is required but missing.
    #[error(
        "http.require_token is set, and there is no token; set http.token or PROCSTAR_HTTP_TOKEN_FILE"
    )]
    NoToken,
    /// TLS settings that are incomplete.
    #[error("http.{given} is set without http.{missing}; set both, or neither")]
    HalfTls {
        /// The configured setting.
        given: &'static str,
        /// The missing setting.
        missing: &'static str,
    },
    /// A TLS file of the HTTP service is unusable.
    #[error("http.tls_cert, http.tls_key or http.client_ca: {0}")]
    HttpTls(#[source] tls::TlsError),
    /// A system feature that every run needs is not available.
    #[error("cannot {what}: {source}")]
    System {
        /// The action that failed.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The keeper has refused this worker, or is gone.
    #[error("{0}")]
    Keeper(#[from] LinkError),
    /// The results could not be written.
    #[error("cannot write results to {to}: {source}{instead}")]
    Write {
        /// The destination.
        to: String,
        /// The reason.
        source: io::Error,
        /// The place of the results, as the end of the sentence.
        instead: String,
    },
    /// Captured output could not be copied to ours.
    #[error("cannot write to {to}: {source}; {}", unwritten_remedy(.source))]
    Copy {
        /// The destination.
        to: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The scheduler could not be reached within the allowed number of attempts.
    #[error(
        "gave up connecting to the scheduler after agent.connect.count_max attempts; the log above has the cause of each failure"
    )]
    GaveUp,
}

/// The remedy for a file that cannot be written, as the end of the sentence.
fn output_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; create its directory, or choose another path",
        io::ErrorKind::PermissionDenied => "; choose a path that this user may write to",
        io::ErrorKind::IsADirectory => "; choose the path of a file",
        _ if error.raw_os_error() == Some(libc::EBADF) => "; it is closed: open it, or redirect it",
        _ => "",
    }
}

fn spec_errors(input: &str, errors: &spec::SpecErrors) -> String {
    let lines: Vec<String> = errors.0.iter().map(|error| error.in_file(input)).collect();
    lines.join("\n")
}

impl RunError {
    /// The program's exit code for this error, in this run.
    pub fn exit_code_of(&self, run: &Run) -> u8 {
        if run.foreground.is_some() { EXIT_INTERNAL } else { self.exit_code() }
    }

    /// The program's exit code: 2 if the user has to correct something before anything starts, 1
    /// otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Output { .. }
            | RunError::Read(_)
            | RunError::Spec { .. }
            | RunError::Quota { .. }
            | RunError::Cert { .. }
            | RunError::ExposedAddress(_)
            | RunError::NoToken
            | RunError::HalfTls { .. }
            | RunError::HttpTls(_)
            | RunError::Keeper(LinkError::Refused(_)) => 2,
            _ => 1,
        }
    }
}

/// Converts an OS error, by the action that failed.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}
