//! The results at the end of a run, written to standard output and to files.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::app::error::{RunError, STDOUT, system};
use crate::app::patience::GivenUp;
use crate::app::worker::Worker;
use crate::cli::invocation::Run;
use crate::cli::printing;
use crate::keeper::format::Printing;
use crate::report::{ProcessRecord, ResultContext};

impl Worker {
    /// Writes the results to the run's destinations.
    pub(super) async fn write_results(&self, run: &Run) -> Result<(), RunError> {
        if !run.print && run.output.is_none() {
            return Ok(());
        }
        let results = self.actors.get_all().await.unwrap_or_default();
        let printed = if run.print { self.print(&results).await } else { Ok(()) };
        // The file is written even if standard output is closed.
        let saved = match &run.output {
            Some(path) => self.save(&results, path, false).await,
            None => Ok(()),
        };
        printed.and(saved)
    }

    /// Writes the results to a path.
    pub(super) async fn save(
        &self,
        results: &[Arc<ProcessRecord>],
        path: &Path,
        line: bool,
    ) -> Result<(), RunError> {
        let (to, path) = (path.display().to_string(), path.to_owned());
        self.write(to, results, move |results, context| {
            printing::save(results, context, &path, line)
        })
        .await
    }

    /// Prints the results, unless an earlier worker has. If that one died while printing, the
    /// printed part is unknown, so everything is printed again.
    async fn print(&self, results: &[Arc<ProcessRecord>]) -> Result<(), RunError> {
        match self.printing {
            Printing::NotBegun => {}
            Printing::Begun => {
                tracing::warn!("printing results again: a worker died while printing")
            }
            Printing::Done => return Ok(()),
        }
        self.note_printing(Printing::Begun).await;
        self.write(STDOUT.to_owned(), results, printing::print).await?;
        self.note_printing(Printing::Done).await;
        Ok(())
    }

    async fn note_printing(&self, printing: Printing) {
        self.link.remember(|memory| memory.printing = printing);
        self.link.flush().await;
    }

    /// Writes on a thread of its own.
    pub(super) async fn write_patiently(
        &self,
        write: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        match self.patience.wait(actix_rt::task::spawn_blocking(write)).await {
            Ok(written) => written.unwrap_or_else(|error| Err(io::Error::other(error))),
            Err(GivenUp) => Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it")),
        }
    }

    /// Writes results. If that fails, writes them to a temporary file, or to standard error.
    pub(super) async fn write(
        &self,
        to: String,
        results: &[Arc<ProcessRecord>],
        write: impl FnOnce(&[Arc<ProcessRecord>], &ResultContext) -> io::Result<()> + Send + 'static,
    ) -> Result<(), RunError> {
        let (context, all) = (Arc::clone(&self.context), results.to_vec());
        let Err(source) = self.write_patiently(move || write(&all, &context)).await else {
            return Ok(());
        };
        let (context, all) = (Arc::clone(&self.context), results.to_vec());
        let kept = actix_rt::task::spawn_blocking(move || {
            let instead = write_elsewhere(&source, &all, &context);
            RunError::Write { to, source, instead }
        });
        Err(kept.await.unwrap_or_else(|error| system("write results")(io::Error::other(error))))
    }
}

/// Writes results whose destination has failed; returns the end of a sentence that names the new
/// place.
fn write_elsewhere(
    why: &io::Error,
    results: &[Arc<ProcessRecord>],
    context: &ResultContext,
) -> String {
    if why.kind() == io::ErrorKind::BrokenPipe {
        // Its reader has closed it, and does not want them.
        return String::new();
    }
    match printing::keep(results, context) {
        Ok(path) => format!("; wrote them to {} instead", path.display()),
        Err(_) => match printing::print_to(&io::stderr(), results, context) {
            Ok(()) => "; wrote them to standard error instead".to_owned(),
            Err(_) => "; the results are lost: they cannot be written anywhere else".to_owned(),
        },
    }
}
