//! Threads for single calls that may block on a hung file system for ever.
//!
//! Callers wait only up to a deadline. A hung thread is left alone: it costs a small stack, and
//! there are at most [`MOST`].

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::engine::creds::Creds;
use crate::engine::sys;

/// Most threads at a time. While so many hang, no further ones are started.
const MOST: usize = 256;
/// The stack size of a thread.
const STACK: usize = 128 * 1024;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts one thread during its life.
struct Place;

impl Place {
    fn take() -> io::Result<Place> {
        if RUNNING.fetch_add(1, Ordering::AcqRel) < MOST {
            return Ok(Place);
        }
        RUNNING.fetch_sub(1, Ordering::AcqRel);
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs `work` on its own thread with the user and groups `creds`; `work` gets the error if the
/// thread could not switch to them.
///
/// # Errors
/// The OS error of making the thread, `EAGAIN` if there are too many; then `work` does not run.
pub(crate) fn start(
    creds: &Creds,
    work: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<()> {
    let place = Place::take()?;
    let creds = creds.clone();
    std::thread::Builder::new().name("files".into()).stack_size(STACK).spawn(move || {
        let _place = place;
        sys::block_all_signals();
        // The starting thread may have its own umask.
        let ready = sys::leave_own_umask().and_then(|()| creds.take_on());
        work(ready);
    })?;
    Ok(())
}

/// Runs `work` as [`start`] does, and waits for its result up to `patience`.
///
/// # Errors
/// The error of `work`; the OS error of making the thread or switching to the user; `ETIMEDOUT`
/// after `patience`.
pub(crate) fn wait<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    creds: &Creds,
    patience: Duration,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let (sender, receiver) = mpsc::sync_channel(1);
    start(creds, move |ready| {
        // The receiver may have given up.
        let _ = sender.send(ready.map_err(E::from).and_then(|()| work()));
    })?;
    let late = |_| io::Error::from_raw_os_error(libc::ETIMEDOUT);
    receiver.recv_timeout(patience).map_err(late)?
}

/// Calls that may hang, such as those to a file system: while one is late, no further one is made.
#[derive(Default)]
pub(crate) struct Patient {
    /// The number of late calls.
    late: Arc<AtomicUsize>,
}

/// The progress of one call.
enum Call<T> {
    Pending,
    Done(T),
    /// The caller has stopped waiting.
    TimedOut,
}

impl Patient {
    /// Runs `work` on another thread, and waits for its result up to `patience`.
    ///
    /// # Errors
    /// The OS error of `work`, or of making the thread; `ETIMEDOUT` after `patience`, or while an
    /// earlier call is late.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let timed_out = || io::Error::from_raw_os_error(libc::ETIMEDOUT);
        if self.late.load(Ordering::Acquire) > 0 {
            return Err(timed_out());
        }
        let call = Arc::new((Mutex::new(Call::Pending), Condvar::new()));
        let (pending, late) = (Arc::clone(&call), Arc::clone(&self.late));
        start(&Creds::default(), move |ready| {
            let answer = ready.and_then(|()| work());
            let mut state = pending.0.lock().unwrap_or_else(PoisonError::into_inner);
            match *state {
                Call::TimedOut => {
                    late.fetch_sub(1, Ordering::AcqRel);
                }
                _ => *state = Call::Done(answer),
            }
            pending.1.notify_one();
        })?;
        let state = call.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut Call<_>| matches!(state, Call::Pending);
        let (mut state, _) = call
            .1
            .wait_timeout_while(state, patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, Call::TimedOut) {
            Call::Done(answer) => answer,
            _ => {
                self.late.fetch_add(1, Ordering::AcqRel);
                Err(timed_out())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Opening a FIFO without a writer blocks like a hung file system.
    #[test]
    fn a_hung_call_times_out_and_does_not_delay_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let ours = Creds::default();
        let path = fifo.clone();
        let hung = wait(&ours, Duration::from_millis(10), move || std::fs::File::open(path));
        assert_eq!(hung.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        assert_eq!(wait(&ours, LONG, || Ok::<_, io::Error>(7)).unwrap(), 7);
        // This lets the other thread end.
        drop(std::fs::File::options().write(true).open(&fifo).unwrap());
    }

    #[test]
    fn an_error_of_the_work_is_passed_on() {
        let failed =
            wait(&Creds::default(), LONG, || Err::<(), _>(io::Error::from_raw_os_error(5)));
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(5));
    }

    /// One late answer costs the timeout once; after its arrival, questions are asked again.
    #[test]
    fn no_call_is_made_while_one_hangs() {
        let patient = Patient::default();
        assert_eq!(patient.run(LONG, || Ok(1)).unwrap(), 1);
        let (release, released) = mpsc::channel::<()>();
        let hung = patient.run(Duration::from_millis(10), move || {
            let _ = released.recv();
            Ok(())
        });
        assert_eq!(hung.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        let refused = patient.run(LONG, || -> io::Result<()> { panic!("called") });
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        drop(release);
        while patient.late.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(patient.run(LONG, || Ok(2)).unwrap(), 2);
    }
}
