//! Requests and answers, apart from any transport.
//!
//! - [`call`] carries a decoded request out by calls on the actors. Its answer bears the number of
//!   the last change that is in it.
//! - [`accept`] starts processes for a dispatcher that acknowledges: it resolves when the journal
//!   holds them.
//! - [`conversation`] knows what one server has been told: it turns changes and answers into
//!   messages, and says nothing twice that must be said once. It is pure.
//! - [`outbox`] holds messages until they are sent, and makes results when there is room for them.
//!
//! A transport takes the changes of its subscription up to the number of an answer before the answer
//! itself: so nothing overtakes.

pub mod accept;
pub mod call;
pub mod conversation;
pub mod outbox;
