//! The message that begins a subscription to all changes.
//!
//! The results actor pushes changes into bounded [`Subscription`]s: a slow reader costs a bounded
//! amount and delays nobody. It gets the changes beyond the bound coalesced by process.

use actix::Message;

use super::{Cursor, Snapshot};
use crate::actors::subscription::{Delivery, Subscription};

/// Follow the changes. Handled by [`Results`](crate::actors::results::Results). Dropping the
/// [`Subscription`] ends it.
#[derive(Message)]
#[rtype(result = "Subscribed")]
pub struct Subscribe {
    /// The last change that the reader knows; none: begin with a snapshot.
    pub after: Option<Cursor>,
    /// Which changes the subscription may coalesce.
    pub delivery: Delivery,
}

/// The answer to [`Subscribe`].
pub enum Subscribed {
    /// The present state, and every later change.
    From(Snapshot, Subscription),
    /// Every change after the cursor. If [`seq`](super::Change::seq) has a gap, the changes in it
    /// are coalesced into later ones.
    After(Subscription),
    /// The cursor is of another run, or older than the deletions that the log still has: the reader
    /// begins with a snapshot.
    Reset,
}
