//! Changes as server-sent events.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Interval;

use super::feed::{Event, Feed};
use super::figures::{Wish, look};

/// After so long without an event a comment is sent: a client that has gone is noticed by that, and one behind a proxy is not cut off.
const SILENCE: Duration = Duration::from_secs(15);

/// A reader: the changes for it, and where it wants them the figures.
struct Reader {
    feed: Feed,
    figures: Option<(Wish, Interval)>,
    first: bool,
}

impl Reader {
    /// What comes next; none after the agent's last word.
    async fn next(&mut self) -> io::Result<Option<Event>> {
        let Reader { feed, figures, .. } = self;
        let Some((wish, rounds)) = figures else { return feed.next().await };
        tokio::select! {
            // So that figures speak of processes that the reader knows.
            biased;
            event = feed.next() => return event,
            _ = rounds.tick() => {}
        }
        Ok(look(feed.service(), wish).await)
    }
}

/// The body.
pub(super) fn stream(feed: Feed, figures: Option<Wish>) -> impl Stream<Item = io::Result<Bytes>> {
    let figures = figures.map(|wish| {
        let rounds = wish.rounds();
        (wish, rounds)
    });
    let reader = Reader { feed, figures, first: true };
    futures_util::stream::try_unfold(reader, |mut reader| async move {
        if reader.first {
            reader.first = false;
            // So that the client knows at once that it is heard, whatever happens.
            return Ok(Some((Bytes::from_static(b": procstar\n\n"), reader)));
        }
        let block = match tokio::time::timeout(SILENCE, reader.next()).await {
            Err(_) => Bytes::from_static(b":\n\n"),
            Ok(event) => match event? {
                Some(event) => Bytes::from(text(&event)),
                None => return Ok(None),
            },
        };
        // A reader that is far behind has always something to get.
        tokio::task::yield_now().await;
        Ok(Some((block, reader)))
    })
}

fn text(event: &Event) -> String {
    let id = event.cursor.map_or_else(String::new, |cursor| format!("id: {cursor}\n"));
    format!("{id}event: {}\ndata: {}\n\n", event.kind, event.json)
}
