//! The node agent as a library, so that tests can drive its parts.

pub mod args;
pub mod cgroup;
pub mod finder;
pub mod kernel;
pub mod metrics;
pub mod own;
pub mod pods;
pub mod push;
pub mod run;
pub mod shared;
pub mod watch;
