//! The end of the actors' runtime, which ends with the program.

use actix::{System, SystemRunner};

/// Leaks the runtime. Dropping it would wait for the threads of its pool, one of which may be
/// blocked in a name lookup or in a write that nobody reads. The program ends now.
pub(super) fn leave(system: SystemRunner) {
    // A thread of the HTTP service may end after the main thread's values are dropped. If it then
    // dropped the last handle of the system, it would wake the system's task; tokio panics if a
    // thread wakes a task while its own values are being dropped.
    std::mem::forget(System::current());
    std::mem::forget(system);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use tokio::sync::oneshot;
    use tokio::task::LocalSet;

    use super::*;

    /// If a value of a thread panics while it is dropped, the process aborts.
    #[test]
    fn a_thread_that_ends_after_the_main_thread_wakes_nobody() {
        let (handle, handles) = mpsc::channel();
        let main = thread::spawn(move || {
            let system = System::new();
            system.block_on(async {
                let (done, is_done) = oneshot::channel();
                System::current().arbiter().spawn(async { done.send(()).unwrap() });
                // By then the system's own tasks wait for messages of the handles.
                is_done.await.unwrap();
            });
            handle.send(System::current()).unwrap();
            leave(system);
        });
        let system = handles.recv().unwrap();
        main.join().unwrap();
        let worker = thread::spawn(move || {
            System::set_current(system);
            // Created after the handle, as in a worker, so dropped before it.
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            LocalSet::new().block_on(&runtime, async {});
        });
        worker.join().unwrap();
    }
}
