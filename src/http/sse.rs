//! Changes as server-sent events.

use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Interval;

use super::disconnect::closed;
use super::feed::{Event, Feed};
use super::stats::{StatsQuery, collect};

/// Time without an event after which a comment is sent, so that no proxy cuts the connection.
const SILENCE: Duration = Duration::from_secs(15);

/// A reader: the changes for it, and if requested, the stats.
struct Reader {
    feed: Feed,
    stats: Option<(StatsQuery, Interval)>,
    /// The client's closing of its end.
    closed: Pin<Box<dyn Future<Output = ()>>>,
    first: bool,
}

impl Reader {
    /// The next event; `None` after the worker's last, or once the client has gone.
    async fn next(&mut self) -> io::Result<Option<Event>> {
        let Reader { feed, stats, closed, .. } = self;
        // Stats describe processes that the reader knows: a snapshot may take longer than the first
        // interval.
        let has_begun = feed.has_begun();
        let round = async {
            match stats {
                Some((_, rounds)) => drop(rounds.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = feed.next() => return event,
            () = closed => return Ok(None),
            () = round, if has_begun => {}
        }
        match stats {
            Some((wish, _)) => Ok(collect(feed.service(), wish).await),
            None => Ok(None),
        }
    }
}

/// The body; `connection` is the client's, and open as long as the body lives.
pub(super) fn stream(
    feed: Feed,
    stats: Option<StatsQuery>,
    connection: Option<RawFd>,
) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let stats = stats.map(|wish| {
        let rounds = wish.rounds();
        (wish, rounds)
    });
    let closed: Pin<Box<dyn Future<Output = ()>>> = match connection {
        Some(connection) => Box::pin(closed(connection)),
        None => Box::pin(std::future::pending()),
    };
    let reader = Reader { feed, stats, closed, first: true };
    futures_util::stream::try_unfold(reader, |mut reader| async move {
        if reader.first {
            reader.first = false;
            // The client sees at once that the request was accepted.
            return Ok(Some((Bytes::from_static(b": procstar\n\n"), reader)));
        }
        let block = match tokio::time::timeout(SILENCE, reader.next()).await {
            Err(_) => Bytes::from_static(b":\n\n"),
            Ok(event) => match event? {
                Some(event) => Bytes::from(text(&event)),
                None => return Ok(None),
            },
        };
        // A reader that is far behind always has another event waiting.
        tokio::task::yield_now().await;
        Ok(Some((block, reader)))
    })
}

fn text(event: &Event) -> String {
    let id = event.cursor.map_or_else(String::new, |cursor| format!("id: {cursor}\n"));
    format!("{id}event: {}\ndata: {}\n\n", event.kind, event.json)
}
