//! Whether a client has gone while its request is being answered.
//!
//! A client that closes its connection is not noticed by whoever makes its answer: actix-web goes on reading the connection, but it
//! lets a handler finish, and a body that has nothing to send is not asked. So each thread that answers requests has one epoll
//! instance for the connections whose clients wait. It reports only that a peer has closed its end: what a client sends meanwhile
//! wakes nobody, and a wait costs no descriptor.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// A client that has closed its end may still read, for TCP does not say whether it does: its answer has this time to be made.
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// So many connections are reported at once.
const EVENTS: usize = 64;

/// How much of a connection its peer has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum PeerClosed {
    #[default]
    Nothing,
    /// It sends nothing more. All that TCP tells of a client that has closed its connection.
    Sending,
    /// It does not read any more either: the connection is reset, or, over a Unix socket, closed.
    All,
}

/// Waits until a client sends nothing more. To be dropped before the connection.
pub(super) async fn closed(connection: RawFd) {
    match PeerWatch::begin(connection) {
        Ok(mut watching) => watching.reached(PeerClosed::Sending).await,
        Err(error) => unwatched(&error).await,
    }
}

/// Waits until an answer would come too late: the client has closed its connection, or its end of it for some seconds. To be dropped
/// before the connection.
pub(super) async fn gone(connection: RawFd) {
    let mut watching = match PeerWatch::begin(connection) {
        Ok(watching) => watching,
        Err(error) => return unwatched(&error).await,
    };
    watching.reached(PeerClosed::Sending).await;
    // Either way it is over.
    let _ = tokio::time::timeout(HALF_CLOSED, watching.reached(PeerClosed::All)).await;
}

async fn unwatched(error: &io::Error) {
    tracing::warn!(%error, "cannot watch a client's connection");
    pending().await
}

/// Descriptors that an epoll instance can be awaited by.
struct EpollFd(Epoll);

impl AsRawFd for EpollFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// The connections of one thread that are watched.
struct WatchedConnections {
    epoll: AsyncFd<EpollFd>,
    watched: RefCell<HashMap<RawFd, watch::Sender<PeerClosed>>>,
}

thread_local! {
    /// Weak, so that it ends with the runtime of this thread, which holds it.
    static CONNECTIONS: RefCell<Weak<WatchedConnections>> = const { RefCell::new(Weak::new()) };
}

impl WatchedConnections {
    /// Those of this thread.
    fn here() -> io::Result<Rc<WatchedConnections>> {
        CONNECTIONS.with(|here| {
            if let Some(connections) = here.borrow().upgrade() {
                return Ok(connections);
            }
            let epoll = EpollFd(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
            // SAFETY: the instance owns its descriptor, and is owned by what this makes until that is dropped.
            let epoll = unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) };
            let epoll = epoll.map_err(io::Error::from)?;
            let connections = Rc::new(WatchedConnections { epoll, watched: RefCell::default() });
            actix_rt::spawn(Rc::clone(&connections).run());
            *here.borrow_mut() = Rc::downgrade(&connections);
            Ok(connections)
        })
    }

    /// Passes on what the kernel reports, as long as the thread's runtime lives.
    async fn run(self: Rc<Self>) {
        loop {
            let mut ready = match self.epoll.readable().await {
                Ok(ready) => ready,
                Err(error) => return tracing::error!(%error, "cannot watch connections any more"),
            };
            let mut events = [EpollEvent::empty(); EVENTS];
            match ready.get_inner().0.wait(&mut events, EpollTimeout::ZERO) {
                Ok(0) => ready.clear_ready(),
                Ok(count) => {
                    events.iter().take(count).for_each(|event| self.report(*event));
                    // More than these may be waiting, but others have their turn.
                    tokio::task::yield_now().await;
                }
                Err(Errno::EINTR) => {}
                Err(error) => return tracing::error!(%error, "cannot watch connections any more"),
            }
        }
    }

    fn report(&self, event: EpollEvent) {
        let connection = event.data() as RawFd;
        let watched = self.watched.borrow();
        // What nobody watches any more has been taken out of the instance before this.
        let Some(watched) = watched.get(&connection) else { return };
        // SAFETY: whoever watches it is dropped before the connection, and then takes it out of `watched`.
        let fd = unsafe { BorrowedFd::borrow_raw(connection) };
        let epoll = &self.epoll.get_ref().0;
        let all = event.events().intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        // The instance would report it again and again. It reports a reset whether or not it is asked to.
        let told = match all {
            true => epoll.delete(fd),
            false => epoll.modify(fd, &mut EpollEvent::new(EpollFlags::empty(), event.data())),
        };
        if let Err(error) = told {
            tracing::debug!(%error, "cannot change how a connection is watched");
        }
        watched.send_replace(if all { PeerClosed::All } else { PeerClosed::Sending });
    }
}

/// Somebody who watches a connection.
struct PeerWatch {
    connections: Rc<WatchedConnections>,
    connection: RawFd,
    closed: watch::Receiver<PeerClosed>,
}

impl PeerWatch {
    fn begin(connection: RawFd) -> io::Result<PeerWatch> {
        let connections = WatchedConnections::here()?;
        let known = connections.watched.borrow().get(&connection).map(watch::Sender::subscribe);
        let closed = match known {
            Some(closed) => closed,
            None => {
                // SAFETY: the caller is dropped before the connection.
                let fd = unsafe { BorrowedFd::borrow_raw(connection) };
                let event = EpollEvent::new(EpollFlags::EPOLLRDHUP, connection as u64);
                connections.epoll.get_ref().0.add(fd, event)?;
                let (report, closed) = watch::channel(PeerClosed::Nothing);
                connections.watched.borrow_mut().insert(connection, report);
                closed
            }
        };
        Ok(PeerWatch { connections, connection, closed })
    }

    async fn reached(&mut self, wanted: PeerClosed) {
        if self.closed.wait_for(|closed| *closed >= wanted).await.is_err() {
            // Nobody reports any more.
            pending::<()>().await;
        }
    }
}

impl Drop for PeerWatch {
    fn drop(&mut self) {
        let mut watched = self.connections.watched.borrow_mut();
        let last = watched.get(&self.connection).is_some_and(|one| one.receiver_count() <= 1);
        if last {
            watched.remove(&self.connection);
            // SAFETY: this is dropped before the connection.
            let fd = unsafe { BorrowedFd::borrow_raw(self.connection) };
            // It has been taken out already where the client has closed all.
            let _ = self.connections.epoll.get_ref().0.delete(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    async fn soon(what: impl Future<Output = ()>) {
        tokio::time::timeout(Duration::from_secs(20), what).await.expect("it is reported");
    }

    fn watched() -> usize {
        WatchedConnections::here().unwrap().watched.borrow().len()
    }

    fn over_tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[actix::test]
    async fn a_client_that_closes_is_reported_though_it_has_sent_something() {
        let (client, server) = over_tcp();
        let (mut other, at_other) = UnixStream::pair().unwrap();
        let mut first = Box::pin(closed(server.as_raw_fd()));
        let mut second = Box::pin(gone(at_other.as_raw_fd()));
        let mut third = Box::pin(closed(at_other.as_raw_fd()));
        other.write_all(b"x").unwrap();
        (&client).write_all(&[0; 1000]).unwrap();
        tokio::select! {
            biased;
            () = &mut first => panic!("reported too early"),
            () = &mut second => panic!("reported too early"),
            () = &mut third => panic!("reported too early"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(watched(), 2);
        drop((client, other));
        soon(first).await;
        soon(second).await;
        soon(third).await;
        assert_eq!(watched(), 0);
        // The same descriptor can be watched again, and what is closed already is reported.
        soon(closed(server.as_raw_fd())).await;
        soon(gone(at_other.as_raw_fd())).await;
    }

    /// One that only sends nothing more has some seconds for its answer; one that is reset, or another who closes, has none.
    #[actix::test]
    async fn half_closed_connections_are_not_gone_at_once() {
        let (client, server) = over_tcp();
        client.shutdown(Shutdown::Write).unwrap();
        soon(closed(server.as_raw_fd())).await;
        let mut waiting = Box::pin(gone(server.as_raw_fd()));
        tokio::select! {
            biased;
            () = &mut waiting => panic!("gone too early"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        // What it has not read resets the connection when it closes.
        (&server).write_all(b"answer").unwrap();
        let peeked = client.peek(&mut [0; 6]).unwrap();
        assert!(peeked > 0);
        drop(client);
        let began = tokio::time::Instant::now();
        soon(waiting).await;
        assert!(began.elapsed() < HALF_CLOSED, "{:?}", began.elapsed());
        assert_eq!(watched(), 0);
    }
}
