//! Results, their parts and their encodings.
//!
//! A [`ProcessRecord`] holds the facts about a process; [`ResultStream`] is the result made from
//! it, as a stream in either format. The other modules hold the types of a result's parts. Their
//! comments state keys, units and sources; [`schema`](schema()) publishes them.

mod agent;
mod body;
pub mod capture;
pub mod cgroup;
mod context;
mod encode;
pub mod failure;
mod fd_encoding;
pub mod proc_stat;
mod record;
pub mod resources;
mod result_stream;
pub mod rusage;
pub mod samples;
mod schema;
pub mod status;
pub mod times;
pub mod utf8;
mod word;

pub use agent::AgentInfo;
pub use body::{FdResult, Reason, ResultBody};
pub use context::ResultContext;
pub use record::{AsOf, ProcessRecord, Stats, Summary};
pub use result_stream::{OutputView, ResultFormat, ResultStream};
pub use schema::{http_schema, schema};
pub use word::Word;
