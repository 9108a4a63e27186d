//! The HTTP service (`docs/http.md`): thin routes onto the actors' messages.
//!
//! A request passes four rooms. `answer` admits it by its head: `guard` asks whether it is answered at all (who is at the other end of a
//! connection was found out when that was accepted; `refusals` counts, logs and delays what is not), and `route` reads its path, as it came, so that an ID may hold any text. `handlers`
//! turn it into a message to an actor and the reply into an answer; what goes wrong anywhere becomes a `Failure`, which is an
//! answer too. `answer` then adds what all answers have. Results and captures are made while they are sent (`results`, `output`,
//! `blocks`), in the `coding` that the client likes most.
//!
//! The service runs on worker threads of its own. It owns nothing but connections: dropping the server drops these, and
//! no process notices. A client that reads slowly or not at all holds its connection, one block of bytes and the captures
//! that it reads, and holds up nobody else; one that goes is noticed while it is kept waiting (`gone`). What a request made an actor do
//! is done, whether or not its client waits.

mod about;
pub mod access;
mod answer;
mod blocks;
mod body;
mod coding;
mod conditions;
mod doors;
mod failure;
mod feed;
mod figures;
mod gone;
mod guard;
mod handlers;
mod listening;
mod log_level;
mod metrics;
mod openapi;
mod output;
mod page;
mod page_at;
mod query;
mod range;
mod refusals;
mod results;
mod route;
mod server;
mod serving;
mod sse;
mod unauthenticated;
mod ws;

pub use about::{About, ServerLink};
pub use access::listening::{listener_of, listens};
pub use doors::{
    Bound, Door, Doors, Exposed, SocketPath, bind, listen, listen_on, listen_unix, may_listen,
    relisten,
};
pub use listening::{ListenerState, Listening};
pub use log_level::LogControl;
pub use server::{Limits, Service};
pub use serving::Serving;
pub use unauthenticated::UnauthenticatedLimits;
