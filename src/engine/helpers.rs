//! Threads that do for others what may wait for a file system, for ever if that is dead: each does one thing and ends.
//!
//! Nobody waits for one without a deadline. One that hangs is left alone: it costs a small stack, and there are at most [`MOST`].

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::engine::creds::Creds;
use crate::engine::sys;

/// How many there are at a time. While so many hang, nothing else of the kind is tried.
const MOST: usize = 256;
/// The stack of one.
const STACK: usize = 128 * 1024;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts one helper as long as it lives.
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

/// Has `work` done by a thread of its own, which has the user and groups `creds`; `work` gets the error where it could not take them on.
///
/// # Errors
/// The OS error of making the thread, `EAGAIN` where there are too many; `work` is not done then.
pub(crate) fn start(
    creds: &Creds,
    work: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<()> {
    let place = Place::take()?;
    let creds = creds.clone();
    std::thread::Builder::new().name("files".into()).stack_size(STACK).spawn(move || {
        let _place = place;
        sys::block_all_signals();
        // It may have been started by a thread with an umask of its own.
        let ready = sys::leave_own_umask().and_then(|()| creds.take_on());
        work(ready);
    })?;
    Ok(())
}

/// Has `work` done as by [`start`], and waits for what comes of it, no longer than `patience`.
///
/// # Errors
/// The error of `work`; the OS error of making the thread, or of taking on the user; `ETIMEDOUT` where the patience is over.
pub(crate) fn wait<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    creds: &Creds,
    patience: Duration,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let (tell, told) = mpsc::sync_channel(1);
    start(creds, move |ready| {
        // Nobody may be waiting any more.
        let _ = tell.send(ready.map_err(E::from).and_then(|()| work()));
    })?;
    let late = |_| io::Error::from_raw_os_error(libc::ETIMEDOUT);
    told.recv_timeout(patience).map_err(late)?
}

/// What has been asked of something that may not answer, such as a file system: while an answer is late, nothing more is asked.
#[derive(Default)]
pub(crate) struct Patient {
    /// How many answers are late.
    late: Arc<AtomicUsize>,
}

/// How far one question has come.
enum Question<T> {
    Asked,
    Answered(T),
    /// Nobody waits for the answer any more.
    GivenUp,
}

impl Patient {
    /// Has `work` done by another thread, and waits for what comes of it, no longer than `patience`.
    ///
    /// # Errors
    /// The OS error of `work`, or of making the thread; `ETIMEDOUT` where the patience is over, or an earlier answer is late.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let timed_out = || io::Error::from_raw_os_error(libc::ETIMEDOUT);
        if self.late.load(Ordering::Acquire) > 0 {
            return Err(timed_out());
        }
        let question = Arc::new((Mutex::new(Question::Asked), Condvar::new()));
        let (asked, late) = (Arc::clone(&question), Arc::clone(&self.late));
        start(&Creds::default(), move |ready| {
            let answer = ready.and_then(|()| work());
            let mut state = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
            match *state {
                Question::GivenUp => {
                    late.fetch_sub(1, Ordering::AcqRel);
                }
                _ => *state = Question::Answered(answer),
            }
            asked.1.notify_one();
        })?;
        let state = question.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut Question<_>| matches!(state, Question::Asked);
        let (mut state, _) = question
            .1
            .wait_timeout_while(state, patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, Question::GivenUp) {
            Question::Answered(answer) => answer,
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

    /// Opening a FIFO that nobody writes waits as a dead file system does.
    #[test]
    fn what_hangs_is_given_up_and_does_not_hold_up_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let ours = Creds::default();
        let path = fifo.clone();
        let hung = wait(&ours, Duration::from_millis(10), move || std::fs::File::open(path));
        assert_eq!(hung.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        assert_eq!(wait(&ours, LONG, || Ok::<_, io::Error>(7)).unwrap(), 7);
        // The other one ends once it can.
        drop(std::fs::File::options().write(true).open(&fifo).unwrap());
    }

    #[test]
    fn an_error_of_the_work_is_passed_on() {
        let failed =
            wait(&Creds::default(), LONG, || Err::<(), _>(io::Error::from_raw_os_error(5)));
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(5));
    }

    /// One late answer costs the patience once; with it, all is as before.
    #[test]
    fn while_an_answer_is_late_nothing_is_asked() {
        let patient = Patient::default();
        assert_eq!(patient.ask(LONG, || Ok(1)).unwrap(), 1);
        let (release, released) = mpsc::channel::<()>();
        let hung = patient.ask(Duration::from_millis(10), move || {
            let _ = released.recv();
            Ok(())
        });
        assert_eq!(hung.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        let refused = patient.ask(LONG, || -> io::Result<()> { panic!("asked") });
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        drop(release);
        while patient.late.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(patient.ask(LONG, || Ok(2)).unwrap(), 2);
    }
}
