//! Requests and answers, independent of the transport.
//!
//! - [`call`] carries out a decoded request by messages to the actors. Its answer bears the number
//!   of the last change that it contains.
//! - [`accept`] starts processes for a scheduler that acknowledges: it resolves when the journal
//!   has them.
//! - [`conversation`] remembers what one scheduler has received: it turns changes and answers into
//!   messages, and repeats none. It is pure.
//! - [`outbox`] holds messages until they are sent, and makes results when there is room for them.
//!
//! A transport takes the changes of its subscription up to the number of an answer, and then the
//! answer: so no message overtakes another.

pub mod accept;
pub mod call;
pub mod conversation;
pub mod outbox;
