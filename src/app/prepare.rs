//! The steps of a start that have no effect: reading INPUT and the certificates, and listening. An
//! error is harmless.

use std::os::fd::RawFd;

use crate::actors::supervisor::warn_of_systemd;
use crate::app::error::{RunError, STDOUT};
use crate::app::listening::{self, Before, Given, Listening};
use crate::app::supervision::quota;
use crate::cli::input::{name_of, read_text};
use crate::cli::invocation::{Input, Run};
use crate::cli::run_command::{Foreground, ResultTo};
use crate::cli::{descriptor, printing};
use crate::config::{Env, Settings};
use crate::keeper::variables::AGAIN;
use crate::net::tls;
use crate::report::ResultContext;
use crate::rotating::Rotating;
use crate::sampler::ProcReader;
use crate::spec::{self, Validated};

/// The scheduler's host, and the encryption of connections to it.
pub(super) type Dialer = (String, Rotating<rustls::ClientConfig>);

/// The parts that a worker needs before it introduces itself.
pub(super) struct Prepared {
    pub(super) dialer: Option<Dialer>,
    pub(super) context: ResultContext,
    pub(super) listening: Listening,
    pub(super) input: Option<Validated>,
}

/// Carries out the steps that may fail without harm.
pub(super) fn prepare(run: &Run, env: &Env, given: Given) -> Result<Prepared, RunError> {
    // A later worker already has processes.
    let first = std::env::var_os(AGAIN).is_none();
    if first {
        check_destinations(run)?;
    }
    let dialer = dialer(&run.settings)?;
    let context =
        ResultContext::new(ProcReader::default()).with_max_inline(run.settings.capture.max_inline);
    let listening = listening::on_network(&run.settings, env, given, first)?;
    // A later worker does not start INPUT's processes again, and a standard input has been read to
    // its end.
    let input = match (&run.input, &run.foreground) {
        _ if !first => None,
        (_, Some(foreground)) => Some(foreground.with_fds(descriptor::inherited())),
        (Some(input), None) => {
            let request = read_input(input)?;
            let exceeded = |error| RunError::Quota { input: name_of(input), error };
            quota(&run.settings).check_first(&request).map_err(exceeded)?;
            Some(request)
        }
        (None, None) => None,
    };
    input.iter().for_each(warn_of_systemd);
    Ok(Prepared { dialer, context, listening, input })
}

/// Whether a worker would start with these options in place of the worker of the keeper `before`;
/// `fds` are the descriptors that this process was started with. Changes nothing.
///
/// # Errors
/// The reason why it would not start.
pub(super) fn rehearse_start(
    run: &Run,
    env: &Env,
    fds: &[RawFd],
    before: &Before<'_>,
) -> Result<(), RunError> {
    dialer(&run.settings)?;
    listening::rehearse(&run.settings.http, env, fds, before)
}

/// Checks that the results can be written to their destinations.
fn check_destinations(run: &Run) -> Result<(), RunError> {
    let refused = |to: String| move |source| RunError::Output { to, source };
    for path in run.output.iter().chain(run.foreground.as_ref().and_then(Foreground::file)) {
        printing::check(path).map_err(refused(path.display().to_string()))?;
    }
    let prints = run.foreground.as_ref().is_some_and(|one| one.result == Some(ResultTo::Stdout));
    if run.print || prints {
        printing::check_stdout().map_err(refused(STDOUT.to_owned()))?;
    }
    Ok(())
}

/// The parts needed to connect to the scheduler, if one is configured.
fn dialer(settings: &Settings) -> Result<Option<Dialer>, RunError> {
    match (settings.agent.enabled, &settings.agent.host) {
        (true, Some(host)) => {
            let trust =
                tls::Trust { cert: settings.agent.cert.clone(), ca: settings.agent.ca.clone() };
            let tls = tls::rotating_client_config(&trust).map_err(|source| {
                let setting = trust.setting_of(&source);
                RunError::Cert { setting, source }
            })?;
            Ok(Some((host.clone(), tls)))
        }
        _ => Ok(None),
    }
}

fn read_input(input: &Input) -> Result<Validated, RunError> {
    let text = read_text(input)?;
    spec::diagnose(&text).map_err(|errors| RunError::Spec { input: name_of(input), errors })
}
