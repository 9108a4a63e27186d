//! (being built)

pub mod capture;
pub mod cgroup;
pub mod proc_stat;
pub mod rusage;
pub mod signal;
pub mod status;
pub mod times;
