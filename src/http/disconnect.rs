//! Detects that a client has gone while its request is being answered.
//!
//! actix-web does not report a closed connection: it keeps reading the connection, but lets the
//! handler finish, and does not poll a body that has nothing to send. So each thread that answers
//! requests has one epoll instance for the connections whose clients wait. It reports only that a
//! peer has closed its end: data from the client wakes nothing, and a wait costs no descriptor.

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

/// Time to finish an answer after a client has closed its end: TCP does not reveal whether the
/// client still reads.
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// Maximum number of connections that are reported at once.
const EVENTS: usize = 64;

/// The part of a connection that its peer has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum PeerClosed {
    #[default]
    Nothing,
    /// It sends nothing more. TCP reports no more than this about a client that has closed its
    /// connection.
    Sending,
    /// It does not read any more either: the connection is reset, or, over a Unix socket, closed.
    All,
}

/// Waits until a client sends nothing more. Must be dropped before the connection.
pub(super) async fn closed(connection: RawFd) {
    match PeerWatch::begin(connection) {
        Ok(mut watching) => watching.reached(PeerClosed::Sending).await,
        Err(error) => unwatched(&error).await,
    }
}

/// Waits until an answer would come too late: the client has closed its connection, or closed its
/// end of it some seconds ago. Must be dropped before the connection.
pub(super) async fn gone(connection: RawFd) {
    let mut watching = match PeerWatch::begin(connection) {
        Ok(watching) => watching,
        Err(error) => return unwatched(&error).await,
    };
    watching.reached(PeerClosed::Sending).await;
    // The wait ends by a full close or by the timeout.
    let _ = tokio::time::timeout(HALF_CLOSED, watching.reached(PeerClosed::All)).await;
}

async fn unwatched(error: &io::Error) {
    tracing::warn!(%error, "cannot watch a client's connection");
    pending().await
}

/// An epoll instance as a descriptor that can be awaited.
struct EpollFd(Epoll);

impl AsRawFd for EpollFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// The watched connections of one thread.
struct WatchedConnections {
    epoll: AsyncFd<EpollFd>,
    watched: RefCell<HashMap<RawFd, watch::Sender<PeerClosed>>>,
}

thread_local! {
    /// Weak, so that it ends with the runtime of this thread, which holds it.
    static CONNECTIONS: RefCell<Weak<WatchedConnections>> = const { RefCell::new(Weak::new()) };
}

impl WatchedConnections {
    /// The instance of this thread.
    fn here() -> io::Result<Rc<WatchedConnections>> {
        CONNECTIONS.with(|here| {
            if let Some(connections) = here.borrow().upgrade() {
                return Ok(connections);
            }
            let epoll = EpollFd(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
            // SAFETY: the instance owns its descriptor, and the returned value owns the instance
            // until it is dropped.
            let epoll = unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) };
            let epoll = epoll.map_err(io::Error::from)?;
            let connections = Rc::new(WatchedConnections { epoll, watched: RefCell::default() });
            actix_rt::spawn(Rc::clone(&connections).run());
            *here.borrow_mut() = Rc::downgrade(&connections);
            Ok(connections)
        })
    }

    /// Forwards the kernel's reports, as long as the thread's runtime lives.
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
                    // More reports may be waiting, but other tasks must run too.
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
        // A connection is removed from the instance when its watch ends.
        let Some(watched) = watched.get(&connection) else { return };
        // SAFETY: a watch is dropped before the connection, and then removes it from `watched`.
        let fd = unsafe { BorrowedFd::borrow_raw(connection) };
        let epoll = &self.epoll.get_ref().0;
        let all = event.events().intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        // The instance would report the state again and again. It reports a reset in any case.
        let changed = match all {
            true => epoll.delete(fd),
            false => epoll.modify(fd, &mut EpollEvent::new(EpollFlags::empty(), event.data())),
        };
        if let Err(error) = changed {
            tracing::debug!(%error, "cannot change how a connection is watched");
        }
        watched.send_replace(if all { PeerClosed::All } else { PeerClosed::Sending });
    }
}

/// The watch of a connection.
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
            // Reports have ended.
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
            // It is removed already if the client has closed both directions.
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

    /// A client that only sends nothing more has some seconds for its answer; one that is reset or
    /// closes entirely has none.
    #[actix::test]
    async fn half_closed_connections_stay_for_a_while() {
        let (client, server) = over_tcp();
        client.shutdown(Shutdown::Write).unwrap();
        soon(closed(server.as_raw_fd())).await;
        let mut waiting = Box::pin(gone(server.as_raw_fd()));
        tokio::select! {
            biased;
            () = &mut waiting => panic!("gone too early"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        // Unread data resets the connection when the client closes it.
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
