//! The driver's part in exit events: it subscribes to them while a process is adopted whose status
//! this kernel does not keep.

use super::poller::{Poller, Source};
use crate::engine::exit_events::ExitEvents;
use crate::engine::foreign;
use crate::engine::owned_child::OwnedChild;

/// The exit events of adopted processes.
#[derive(Default)]
pub(super) struct ExitStatuses {
    /// With its token. `None` while no process needs it.
    open: Option<(ExitEvents, u64)>,
    /// Whether the subscription has failed, and is not tried again.
    unavailable: bool,
}

impl ExitStatuses {
    /// Watches an adopted process for its exit event, if this kernel does not keep its status.
    pub(super) fn watch(&mut self, poller: &mut Poller, child: &OwnedChild) {
        if self.unavailable || foreign::keeps_exit_status(&child.pidfd) {
            return;
        }
        if self.open.is_none() {
            let opened = ExitEvents::open().and_then(|events| {
                let token = poller.watch(events.fd(), Source::ExitEvents)?;
                Ok((events, token))
            });
            match opened {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    self.unavailable = true;
                    tracing::warn!(%error, "cannot subscribe to exit events: on this kernel, the \
                        exit status of an adopted process is lost if another process reaps it first");
                }
            }
        }
        if let Some((events, _)) = &mut self.open {
            events.watch(child.pid, &child.pidfd);
        }
    }

    /// The raw wait status of a process that has ended, if its event has arrived.
    pub(super) fn status(&mut self, pid: i32) -> Option<i32> {
        self.open.as_mut().and_then(|(events, _)| events.status(pid))
    }

    /// Ends the watch of a process; the subscription ends with the last one.
    pub(super) fn unwatch(&mut self, poller: &mut Poller, pid: i32) {
        if let Some((mut events, token)) = self.open.take() {
            if events.unwatch(pid) {
                poller.unwatch(events.fd(), token);
            } else {
                self.open = Some((events, token));
            }
        }
    }

    /// Reads the events that have arrived.
    pub(super) fn read(&mut self) {
        if let Some((events, _)) = &mut self.open {
            events.read();
        }
    }
}
