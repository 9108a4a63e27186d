//! Epoll, with the meaning of its tokens.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::engine::failpoints::{self, Call};
use crate::mem::shrink::Shrink;

/// The meaning of an epoll token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Mailbox,
    Watcher,
    /// A process's pidfd.
    Exit(u64),
    /// The pipe of one of its captures, by the fd's index in the spec.
    Pipe(u64, usize),
    /// A child was cloned by a clone helper.
    Cloned,
    /// Some child has ended.
    Children,
    /// A descendant of a process that is being stopped has ended.
    Descendant(u64),
    /// The pidfd of a capture writer.
    CaptureWriter(i32),
    /// Some thread of the host has ended.
    ExitEvents,
}

/// Epoll, with the meaning of its tokens.
pub(super) struct Poller {
    epoll: Epoll,
    sources: HashMap<u64, Source>,
    next_token: u64,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, sources: HashMap::new(), next_token: 0 })
    }

    /// Waits for events, and returns their number.
    pub(super) fn wait(&self, events: &mut [EpollEvent], timeout: EpollTimeout) -> usize {
        // Apart from EINTR, which needs no handling, waiting on our own epoll cannot fail.
        self.epoll.wait(events, timeout).unwrap_or_default()
    }

    /// The meaning of a token; `None` if an earlier event of the same round has removed it.
    pub(super) fn source(&self, token: u64) -> Option<Source> {
        self.sources.get(&token).copied()
    }

    /// Watches for `fd` to become readable; returns the token.
    pub(super) fn watch(&mut self, fd: impl AsFd, source: Source) -> io::Result<u64> {
        if let Source::Pipe(..) = source {
            failpoints::check(Call::Watch)?;
        }
        self.add(fd, source, EpollFlags::EPOLLIN)
    }

    /// As [`watch`](Self::watch), but reports once, and then not before it is
    /// [rearmed](Self::rearm).
    pub(super) fn watch_once(&mut self, fd: impl AsFd, source: Source) -> io::Result<u64> {
        self.add(fd, source, EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT)
    }

    fn add(&mut self, fd: impl AsFd, source: Source, flags: EpollFlags) -> io::Result<u64> {
        let token = self.next_token;
        self.next_token += 1;
        self.epoll.add(fd, EpollEvent::new(flags, token))?;
        self.sources.insert(token, source);
        Ok(token)
    }

    pub(super) fn rearm(&self, fd: impl AsFd, token: u64) {
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, token);
        // The fd was added, so this cannot fail.
        let _ = self.epoll.modify(fd, &mut event);
    }

    /// Stops watching `fd`. Closing it does not suffice: a child that is just being made has a
    /// copy.
    pub(super) fn unwatch(&mut self, fd: impl AsFd, token: u64) {
        self.sources.remove(&token);
        self.sources.shrink_if_sparse();
        // The fd was added, so this cannot fail.
        let _ = self.epoll.delete(fd);
    }
}
