//! The part of a run that is about one process in the foreground: its output, its result, its exit code.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use actix_rt::task::JoinHandle;
use futures_util::StreamExt;

use crate::app::error::{RunError, STDOUT, system};
use crate::app::worker::Worker;
use crate::cli::invocation::Run;
use crate::cli::printing::{self, CLOSED_PIPE, Counted, Patient};
use crate::cli::run_command::{EXIT_INTERNAL, Foreground, ResultTo, exit_of};
use crate::engine::{ProcessCommand, StopOrder};
use crate::keeper::ProgramExit;
use crate::report::ProcessRecord;
use crate::spec::FdName;

impl Foreground {
    /// The path that the result goes to.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        match &self.result {
            Some(ResultTo::Path(path)) => Some(path),
            _ => None,
        }
    }
}

/// Captured output on its way to ours.
#[derive(Default)]
pub(super) struct Copies(Option<JoinHandle<io::Result<Failures>>>);

/// The outputs of ours that could not be written to, and why not.
type Failures = Vec<(FdName, io::Error)>;

impl Copies {
    /// Waits until all of it is there; the process must have ended. Gives the program's exit code where the process's is 0.
    pub(super) async fn finish(self) -> Result<u8, RunError> {
        let failures = match self.0 {
            Some(copies) => copies
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(system("read captured output"))?,
            None => return Ok(0),
        };
        let mut closed = false;
        for (fd, source) in failures {
            if source.kind() != io::ErrorKind::BrokenPipe {
                let to = if fd == FdName::STDOUT { STDOUT } else { "standard error" };
                return Err(RunError::Copy { to, source });
            }
            closed = true;
        }
        Ok(if closed { CLOSED_PIPE } else { 0 })
    }
}

impl Worker {
    /// Copies the output of a process in the foreground to ours, as it comes and in the order in which it was written, where it is captured.
    /// Where it is not, the process has our own descriptors.
    pub(super) async fn copy_output(&self, run: &Run) -> Copies {
        let Some(foreground) = run.foreground.as_ref().filter(|one| one.capture) else {
            return Copies::default();
        };
        let (id, actors) = (foreground.id.clone(), self.actors.clone());
        let output = actors.follow_output(id.clone()).await.ok().flatten();
        let Some(output) = output else { return Copies::default() };
        let blocks = output.merge();
        Copies(Some(actix_rt::spawn(async move {
            let mut failures = Failures::new();
            let mut blocks = std::pin::pin!(blocks);
            while let Some(block) = blocks.next().await {
                let (fd, block) = match block {
                    Ok(block) => block,
                    Err(error) => return Err(error),
                };
                if failures.iter().any(|(failed, _)| *failed == fd) {
                    continue;
                }
                // On a thread of its own: a terminal that has been stopped takes nothing.
                let written = actix_rt::task::spawn_blocking(move || copy(fd, &block)).await;
                let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
                if let Err(error) = written {
                    failures.push((fd, error));
                    // Without us between, it would get that signal for it, and end: it might write for ever.
                    let order = StopOrder { signum: Some(libc::SIGPIPE), ..StopOrder::default() };
                    actors.post_command(id.clone(), ProcessCommand::Stop(order));
                }
            }
            Ok(failures)
        })))
    }

    /// Says why a process in the foreground was not started, and writes its result; returns how the program ends.
    pub(super) async fn tell_foreground(&self, run: &Run) -> (ProgramExit, Result<(), RunError>) {
        let Some(foreground) = &run.foreground else { return (ProgramExit::Code(0), Ok(())) };
        let results = self.actors.get_all().await.unwrap_or_default();
        let record = results.iter().find(|record| record.id == foreground.id);
        let exit = record.map_or(ProgramExit::Code(EXIT_INTERNAL), |record| exit_of(record));
        let problems = problems(record);
        if !problems.is_empty() {
            let text: String =
                problems.iter().map(|error| format!("procstar: {error}\n")).collect();
            let write = move || Patient::new(&io::stderr())?.write_all(text.as_bytes());
            // Whoever has closed it does not want it.
            let _ = self.write_patiently(write).await;
        }
        let written = match &foreground.result {
            None => Ok(()),
            Some(ResultTo::Stdout) => {
                self.write(STDOUT.to_owned(), &results, printing::print).await
            }
            Some(ResultTo::Path(path)) => self.save(&results, path, true).await,
        };
        (exit, written)
    }
}

/// What the user has to hear of a process that has not run as asked, or is not known to have ended.
fn problems(record: Option<&Arc<ProcessRecord>>) -> Vec<String> {
    match record {
        Some(record) if record.is_running() => {
            vec!["the process has been killed, and has not ended".to_owned()]
        }
        Some(record) => record.errors.clone(),
        None => vec!["the process was not started".to_owned()],
    }
}

fn copy(fd: FdName, block: &[u8]) -> io::Result<()> {
    let mut to = match fd {
        FdName::STDOUT => Patient::new(&io::stdout())?,
        _ => Patient::new(&io::stderr())?,
    };
    Counted(&mut to).write_all(block)
}
