//! The node agent as a library, so that tests can drive its parts.

pub mod cgroup;
pub mod finder;
pub mod kernel;
pub mod own;
