//! Requests: the spec format, read and validated.
//!
//! Reading has two steps. serde reads the text into [`StartRequest`] and the types below it: they
//! hold exactly the text's content, and any unknown key is an error. [`StartRequest::validate`]
//! then checks the whole request before anything is started and returns [`Validated`], from which
//! the engine can plan without further checks. Errors of both steps name the place
//! (`specs.a.fds[1]`), all of them at once, with line and column if the request is a text: serde
//! stops at the first value that does not fit, so [`diagnose`](diagnose()) reads the rest again.
//!
//! This module does not access the system: paths and fds are resolved when the process is started.

mod attributes;
mod capability;
mod captures;
mod diagnose;
mod environment;
mod error;
mod fds;
mod id;
mod identity;
mod locate;
mod object;
mod parse;
mod read;
mod remedy;
mod sandbox;
mod schema;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod unique_keys;
mod validate;
mod validated;

pub use attributes::{
    Account, Bound, IoClass, IoPriority, LimitPair, Resource, ResourceLimits, SignalRef,
    SignalsSpec, StopSpec,
};
pub use capability::Capability;
pub use captures::{CaptureFile, CaptureMode, CaptureSpec, Compression, Encoding, KeepSpec};
pub use environment::{
    EnvSpec, INHERITED_BY_OTHERS, Inherit, VarSpec, VarValue, is_inherited_by_others,
};
pub use error::{Segment, SpecError, SpecErrors, SpecPath};
pub use fds::{
    DataSpec, DupSpec, FdEntry, FdSpec, Fds, FileSpec, NullSpec, OpenFlags, PipeReadSpec,
};
pub use id::{FdName, ProcId};
pub use identity::{Identity, SYSTEMD_UNAPPLIED};
pub use read::{diagnose, from_json, from_msgpack, from_valid_json};
pub use sandbox::{NetworkAccess, Sandbox, SandboxProfile, SandboxSpec};
pub use schema::schema;
pub use types::{
    OomPolicy, ProcSpec, ScopeProperties, SliceProperties, StartRequest, SystemdProperties,
};
pub use validated::{
    Attribute, Attributes, Digest, MAX_FD, PipeEnd, SignalSets, Stopping, Validated, ValidatedFd,
    ValidatedProc,
};
