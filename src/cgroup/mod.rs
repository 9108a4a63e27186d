//! Control groups of version 2: where this process may create them, one group as an object, and
//! the figures that are read from it.
//!
//! Nothing here decides which process gets a group: see the engine's containment.
//!
//! | module | owns |
//! |---|---|
//! | [`layout`] | the mounted hierarchies, and the group of this process |
//! | [`group`] | one group: its directory, its members, kill, freeze, removal |
//! | [`usage`] | the figures of a group |

pub mod group;
pub mod layout;
pub mod usage;

pub use group::Group;
pub use layout::Layout;
pub use usage::Usage;
