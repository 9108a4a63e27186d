//! What is answered: results (`docs/results.md`), their parts and their encodings.
//!
//! [`Facts`] are what is known of a process; [`Document`] is the result made of them, as a stream in either format. The other modules
//! hold the types of a result's parts. Their comments state keys, units and sources; [`schema`](schema()) is made of them.

mod agent;
pub mod capture;
pub mod cgroup;
pub mod chars;
mod document;
mod encode;
mod facts;
pub mod failure;
pub mod proc_stat;
pub mod resources;
pub mod rusage;
pub mod samples;
mod schema;
pub mod status;
pub mod times;

pub use agent::AgentInfo;
pub use document::{Document, Format, OutputView};
pub use facts::{AsOf, Brief, Facts, Figures, Sampler};
pub use schema::schema;
