//! Changes over a WebSocket.
//!
//! A session is the body of the answer to the handshake. It is polled only when its client has
//! accepted the earlier frames; then it takes the next event from its feed. So a client that does
//! not read holds one event, and its session pauses.
//!
//! [`net`](crate::net) decodes the frames, and checks their headers before it buffers anything. A
//! client may send only pings, pongs and Close frames. A violation of the protocol, or a message
//! that is too large, ends only its own session, with a code and a reason.

use std::io;
use std::time::Duration;

use actix_http::ws::handshake;
use actix_web::body::{BodyStream, BoxBody};
use actix_web::dev::Payload;
use actix_web::http::Version;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::error::ApiError;
use super::feed::{Event, Feed};
use crate::net::decoder::{self, Decoder};
use crate::net::frames::{Opcode, close_payload, server_frame};

/// Time between two pings.
const PING: Duration = Duration::from_secs(15);
/// Number of unanswered pings after which a client counts as gone. They are counted, not timed:
/// while it does not read, none is sent.
const PINGS: u32 = 3;
/// The largest message of a client, in bytes.
const MESSAGE: u64 = 64 << 10;

/// Codes of Close frames.
const GOING_AWAY: u16 = 1001;
const NOT_UTF8: u16 = 1007;
const INTERNAL: u16 = 1011;

/// One client.
struct Session {
    feed: Feed,
    payload: Payload,
    decoder: Decoder,
    rounds: Interval,
    /// Number of pings since its last frame.
    pings: u32,
    /// Whether a Close frame was sent.
    over: bool,
}

/// Answers a request for a WebSocket, on which the events of `feed` are sent as texts.
///
/// # Errors
/// The request is not for a WebSocket.
pub(super) fn start(
    feed: Feed,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    if request.version() < Version::HTTP_11 {
        return Err(ApiError::Handshake("it takes HTTP/1.1".to_owned()));
    }
    let mut head =
        handshake(request.head()).map_err(|error| ApiError::Handshake(error.to_string()))?;
    let mut rounds = tokio::time::interval_at(Instant::now() + PING, PING);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let decoder = Decoder::of_client(MESSAGE);
    let session = Session { feed, payload, decoder, rounds, pings: 0, over: false };
    let body = BoxBody::new(BodyStream::new(session.stream()));
    Ok(head.body(body).map_into_boxed_body().into())
}

impl Session {
    /// The frames to send.
    fn stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        futures_util::stream::unfold(self, |mut session| async {
            session.next().await.map(|frames| (Ok(Bytes::from(frames)), session))
        })
    }

    /// The next frames; `None` after the Close frame, or once the client has gone.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if self.over {
            return None;
        }
        // A client that is far behind always has another event waiting.
        tokio::task::yield_now().await;
        loop {
            tokio::select! {
                biased;
                heard = self.payload.next() => {
                    // A read error ends the session, too.
                    let answer = self.hear(&heard?.ok()?);
                    if !answer.is_empty() {
                        return Some(answer);
                    }
                }
                event = self.feed.next() => return Some(self.frame_of(event)),
                _ = self.rounds.tick() => {
                    if self.pings >= PINGS {
                        return None;
                    }
                    self.pings += 1;
                    return Some(server_frame(Opcode::Ping, b""));
                }
            }
        }
    }

    /// The answer to bytes of the client; often empty.
    fn hear(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        self.pings = 0;
        let mut answer = Vec::new();
        while !self.over {
            let frame = match self.decoder.next_event(&mut bytes) {
                Ok(None) => break,
                Ok(Some(decoder::Event::Ping(payload))) => server_frame(Opcode::Pong, &payload),
                Ok(Some(decoder::Event::Close { code, .. })) => self.close(code, ""),
                Ok(Some(decoder::Event::Text(text))) if std::str::from_utf8(&text).is_err() => {
                    self.close(Some(NOT_UTF8), "text message is not utf-8")
                }
                // Other frames of a client are ignored.
                Ok(Some(_)) => continue,
                Err(error) => {
                    tracing::debug!(%error, "closing a websocket");
                    self.close(Some(error.close_code()), &error.to_string())
                }
            };
            answer.extend_from_slice(&frame);
        }
        answer
    }

    /// The frame of an event, or the last frame if there are no more events.
    fn frame_of(&mut self, event: io::Result<Option<Event>>) -> Vec<u8> {
        match event {
            Ok(Some(event)) => server_frame(Opcode::Text, event.json.as_bytes()),
            Ok(None) => self.close(Some(GOING_AWAY), "the agent ends"),
            Err(error) => self.close(Some(INTERNAL), &error.to_string()),
        }
    }

    /// The last frame.
    fn close(&mut self, code: Option<u16>, reason: &str) -> Vec<u8> {
        self.over = true;
        server_frame(Opcode::Close, &close_payload(code, reason))
    }
}
