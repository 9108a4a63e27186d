//! Typed settings, made by layers: where a value comes from, what it may be, who wins.
//!
//! ```text
//! default < /etc/procstar/procstar.toml < $XDG_CONFIG_HOME/procstar/procstar.toml
//!         < --config FILE < environment < flag
//! ```
//!
//! One table, [`keys::KEYS`], knows every setting: its dotted name, the kind of its value, its
//! environment variable and its flag. Every layer is checked against that table where it is read,
//! so an error names the very place (file, line and column; variable; flag), also where a later
//! layer would have won. The checked layers are merged by the `config` crate, and [`Settings`] is
//! what comes out; [`Loaded`] also says where each value came from.
//!
//! Nothing here reads the world: the environment, a file reader and the check whether a file can be
//! trusted come in by [`Sources`].

mod environment;
mod error;
mod file;
mod host;
pub mod keys;
mod kind;
mod layer;
mod load;
mod mistyped;
mod process_env;
mod secret;
mod settings;
mod sources;
mod strength;
mod text;

pub use environment::{NEVER_INHERITED, read_secret_file};
pub use error::{ConfigError, Problem};
pub use host::EVERY_INTERFACE;
pub use kind::{Kind, Scalar};
pub use layer::{Layer, LayerEntry, Origin};
pub use load::{FileState, Loaded, load};
pub(crate) use mistyped::INTERNAL_VARIABLES;
pub use mistyped::mistyped;
pub use process_env::{Env, process_env};
pub(crate) use process_env::{conceal, concealed};
pub use secret::Secret;
pub use settings::{
    AgentSettings, CaptureSettings, ConnectSettings, HttpSettings, LogFormat, LogLevel,
    LogSettings, RunSettings, SamplingSettings, Settings, ShutdownSettings,
};
pub use sources::{ReadFile, SYSTEM_FILE, Sources, TrustFile, read_file};
pub(crate) use strength::{LEAST as TOKEN_BITS, bits as token_bits};
