//! The part of a run that concerns one process in the foreground: its output, its result, its exit
//! code.

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
    /// The path of the result's file.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        match &self.result {
            Some(ResultTo::Path(path)) => Some(path),
            _ => None,
        }
    }
}

/// Captured output that is being copied to ours.
#[derive(Default)]
pub(super) struct Copies(Option<JoinHandle<io::Result<Failures>>>);

/// The outputs of ours that could not be written to, and the reasons.
type Failures = Vec<(FdName, io::Error)>;

impl Copies {
    /// Waits until all output is copied; the process must have ended. Returns the program's exit
    /// code for a process that has exited with 0.
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
    /// Copies the captured output of a foreground process to ours, as it comes and in the order in
    /// which it was written. An output that is not captured goes directly to our descriptor, which
    /// the process has.
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
                // On a thread of its own: a write to a stopped terminal blocks.
                let written = actix_rt::task::spawn_blocking(move || copy(fd, &block)).await;
                let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
                if let Err(error) = written {
                    failures.push((fd, error));
                    // Without us as intermediary, the process would get SIGPIPE and end; with us,
                    // it could otherwise write for ever.
                    let order = StopOrder { signum: Some(libc::SIGPIPE), ..StopOrder::default() };
                    actors.post_command(id.clone(), ProcessCommand::Stop(order));
                }
            }
            Ok(failures)
        })))
    }

    /// Reports why a foreground process was not started, and writes its result; returns the
    /// program's exit.
    pub(super) async fn report_foreground(&self, run: &Run) -> (ProgramExit, Result<(), RunError>) {
        let Some(foreground) = &run.foreground else { return (ProgramExit::Code(0), Ok(())) };
        let results = self.actors.get_all().await.unwrap_or_default();
        let record = results.iter().find(|record| record.id == foreground.id);
        let exit = record.map_or(ProgramExit::Code(EXIT_INTERNAL), |record| exit_of(record));
        let problems = problems(record);
        if !problems.is_empty() {
            let text: String =
                problems.iter().map(|error| format!("procstar: {error}\n")).collect();
            let write = move || Patient::new(&io::stderr())?.write_all(text.as_bytes());
            // A reader that has closed it does not want the result.
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

/// Messages about a process that was not run as requested, or whose end is unknown.
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
