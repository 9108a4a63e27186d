//! Changes over a WebSocket: the one module that knows of actix-web-actors.
//!
//! A session is polled only when its client has taken what was sent before; then it takes the next event from its feed. So a client that
//! does not read holds one event, and its session stands still.

use std::io;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws;

use super::feed::{Event, Feed};

/// From one ping to the next.
const PING: Duration = Duration::from_secs(15);
/// A client that answers none of so many pings has gone. They are counted, not timed: while it does not read, none is sent.
const PINGS: u32 = 3;

/// One client.
struct Session {
    /// None while the next event is awaited.
    feed: Option<Feed>,
    /// Pings since it was last heard.
    pings: u32,
}

/// Answers a request for a WebSocket, on which the events of `feed` are sent as texts.
///
/// # Errors
/// The answer to a request that is none for a WebSocket.
pub(super) fn start(
    feed: Feed,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, actix_web::Error> {
    ws::start(Session { feed: Some(feed), pings: 0 }, request, payload)
}

type Context = ws::WebsocketContext<Session>;

impl Session {
    /// Sends the next event as soon as there is one, and so on.
    fn go_on(&mut self, ctx: &mut Context) {
        let Some(mut feed) = self.feed.take() else { return };
        let next = async move {
            let event = feed.next().await;
            (feed, event)
        };
        ctx.spawn(next.into_actor(self).map(|(feed, event), session, ctx| {
            session.feed = Some(feed);
            session.send(event, ctx);
        }));
    }

    fn send(&mut self, event: io::Result<Option<Event>>, ctx: &mut Context) {
        let (code, description) = match event {
            Ok(Some(event)) => {
                ctx.text(event.json);
                return self.go_on(ctx);
            }
            Ok(None) => (ws::CloseCode::Away, "the agent ends".to_owned()),
            Err(error) => (ws::CloseCode::Error, error.to_string()),
        };
        ctx.close(Some(ws::CloseReason { code, description: Some(description) }));
        ctx.stop();
    }

    fn keep_alive(&mut self, ctx: &mut Context) {
        if self.pings >= PINGS {
            return ctx.stop();
        }
        self.pings += 1;
        ctx.ping(b"");
        ctx.run_later(PING, Session::keep_alive);
    }
}

impl Actor for Session {
    type Context = Context;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.go_on(ctx);
        ctx.run_later(PING, Session::keep_alive);
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for Session {
    fn handle(&mut self, item: Result<ws::Message, ws::ProtocolError>, ctx: &mut Context) {
        self.pings = 0;
        match item {
            Ok(ws::Message::Ping(payload)) => ctx.pong(&payload),
            Ok(ws::Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            // Whatever a client says is not asked for.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "websocket ends");
                ctx.stop();
            }
        }
    }
}
