//! The HTTP service (`docs/reference/http.md`): thin routes onto the actors' messages.
//!
//! A request passes four rooms. `response` admits it by its head: `guard` asks whether it is
//! answered at all (who is at the other end of a connection was found out when that was accepted;
//! `refusals` counts, logs and delays what is not), and `routes` finds its path, as it came, in the
//! table of all routes. `handlers` turn it into a message to an actor and the reply into an answer;
//! what goes wrong anywhere becomes an `ApiError`, which is an answer too. `response` then adds
//! what all answers have. Results and captures are made while they are sent (`results_body`,
//! `output`, `body_stream`), in the `content_encoding` that the client likes most.
//!
//! The service runs on worker threads of its own. It owns nothing but connections: dropping the
//! server drops these, and no process notices. A client that reads slowly or not at all holds its
//! connection, one block of bytes and the captures that it reads, and holds up nobody else; one
//! that goes is noticed while it is kept waiting (`disconnect`). What a request made an actor do is
//! done, whether or not its client waits.

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
