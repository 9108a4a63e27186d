//! Changes as server-sent events.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use super::feed::{Event, Feed};

/// After so long without an event a comment is sent: a client that has gone is noticed by that, and one behind a proxy is not cut off.
const SILENCE: Duration = Duration::from_secs(15);

/// The body.
pub(super) fn stream(feed: Feed) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::try_unfold((feed, true), |(mut feed, first)| async move {
        if first {
            // So that the client knows at once that it is heard, whatever happens.
            return Ok(Some((Bytes::from_static(b": procstar\n\n"), (feed, false))));
        }
        let block = match tokio::time::timeout(SILENCE, feed.next()).await {
            Err(_) => Bytes::from_static(b":\n\n"),
            Ok(event) => match event? {
                Some(event) => Bytes::from(text(&event)),
                None => return Ok(None),
            },
        };
        // A reader that is far behind has always something to get.
        tokio::task::yield_now().await;
        Ok(Some((block, (feed, false))))
    })
}

fn text(event: &Event) -> String {
    let id = event.cursor.map_or_else(String::new, |cursor| format!("id: {cursor}\n"));
    format!("{id}event: {}\ndata: {}\n\n", event.kind, event.json)
}
