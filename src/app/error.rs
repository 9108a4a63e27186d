//! Why a run did not succeed, and the exit code for it.

use std::io;
use std::net::SocketAddr;

use crate::actors::keeper_link::LinkError;
use crate::actors::quota::QuotaExceeded;
use crate::cli::input::InputError;
use crate::cli::invocation::Run;
use crate::cli::run_command::EXIT_INTERNAL;
use crate::net::tls;
use crate::{http, spec};

/// Standard output, in errors.
pub(super) const STDOUT: &str = "standard output";

/// Why a run did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The place of `--output` is none for a file; nothing was started.
    #[error("cannot write results to {to}: {source}")]
    Output {
        /// Where to.
        to: String,
        /// Why not.
        source: io::Error,
    },
    /// INPUT cannot be read.
    #[error(transparent)]
    Read(#[from] InputError),
    /// INPUT is no valid spec; nothing was started.
    #[error("{}", spec_errors(input, errors))]
    Spec {
        /// What was read.
        input: String,
        /// All that is wrong with it.
        errors: spec::SpecErrors,
    },
    /// INPUT asks for more than may be; nothing was started.
    #[error("{input}: {error}")]
    Quota {
        /// What was read.
        input: String,
        /// What it goes beyond.
        error: QuotaExceeded,
    },
    /// A file of certificates is of no use.
    #[error("{setting}: {source}")]
    Cert {
        /// The setting that names it.
        setting: &'static str,
        /// What is wrong with it.
        source: tls::TlsError,
    },
    /// The HTTP port cannot be had.
    #[error("cannot listen on {} port {}: {source}", address.ip(), address.port())]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The HTTP socket that is asked for cannot be had.
    #[error("{0}")]
    Socket(#[source] io::Error),
    /// The HTTP service would be open to whom it must not be.
    #[error("{0}")]
    ExposedAddress(#[from] http::ExposedAddress),
    /// The token is required, and there is none.
    #[error("http.require_token is set, but no token: set http.token, or PROCSTAR_HTTP_TOKEN_FILE")]
    NoToken,
    /// Half of the TLS settings.
    #[error("http.{given} is of no use without http.{missing}")]
    HalfTls {
        /// What is configured.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A file of the HTTP service's TLS is of no use.
    #[error("http.tls_cert, http.tls_key or http.client_ca: {0}")]
    HttpTls(#[source] tls::TlsError),
    /// Something that every run needs of the system.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The keeper has refused this worker, or is gone.
    #[error("{0}")]
    Keeper(#[from] LinkError),
    /// The results could not be written.
    #[error("cannot write results to {to}: {source}{instead}")]
    Write {
        /// Where to.
        to: String,
        /// Why not.
        source: io::Error,
        /// Where they are instead, as the end of the sentence.
        instead: String,
    },
    /// Captured output could not be passed on.
    #[error("cannot write to {to}: {source}")]
    Copy {
        /// Where to.
        to: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The server could not be reached in as many attempts as are allowed.
    #[error("gave up connecting to the server")]
    GaveUp,
}

fn spec_errors(input: &str, errors: &spec::SpecErrors) -> String {
    let lines: Vec<String> = errors.0.iter().map(|error| format!("{input}: {error}")).collect();
    lines.join("\n")
}

impl RunError {
    /// The program's exit code, of this run.
    pub fn exit_code_of(&self, run: &Run) -> u8 {
        if run.foreground.is_some() { EXIT_INTERNAL } else { self.exit_code() }
    }

    /// The program's exit code: 2 for what the user has to mend before anything starts, 1 for the rest.
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

/// An error of the system, by what was tried.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}
