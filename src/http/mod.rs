//! The HTTP service (`docs/reference/http.md`): thin routes to the actors' messages.
//!
//! A request passes four stages. `response` checks its head: `guard` decides whether the client is
//! authorized (the peer was identified when its connection was accepted; `refusals` counts, logs and
//! delays rejected requests). `routes` finds the undecoded path in the table of all routes. `handlers`
//! send a message to an actor and answer with its reply; every failure is an `ApiError`, which is also
//! an answer. `response` then adds the headers that all answers have. Results and captures are
//! generated while they are sent (`results_body`, `output`, `body_stream`), in the `content_encoding`
//! that the client prefers.
//!
//! The service runs on threads of its own and owns only connections: dropping the server closes them
//! and does not affect processes. A slow client occupies only its connection, one block of bytes and
//! the captures that it reads, and does not delay others. While a request waits, `disconnect` detects
//! that the client has gone. An actor completes its work even if the client no longer waits.

mod accepted_connection;
pub mod access;
mod app_state;
mod body_stream;
mod content_encoding;
mod disconnect;
mod dispatch;
mod error;
mod feed;
mod guard;
mod handlers;
mod listener_states;
mod listeners;
mod log_level;
mod metrics;
mod openapi;
mod output;
mod page_url;
mod path;
mod preconditions;
mod query;
mod range;
mod refusals;
mod request_body;
mod request_context;
mod response;
mod results_body;
mod routes;
mod server;
mod serving;
mod sse;
mod stats;
mod status;
mod ui;
mod unauthenticated;
mod ws;

pub use access::listening::{listener_of, listens};
pub use app_state::{HttpLimits, Service};
pub use listener_states::ListenerStates;
pub use listeners::{
    BoundListeners, ExposedAddress, Listener, Listeners, SocketPath, bind, listen, listen_on,
    listen_unix, may_listen, relisten,
};
pub use log_level::LogControl;
pub use serving::Serving;
pub use status::{AgentStatus, ServerLink};
pub use unauthenticated::UnauthenticatedLimits;
