//! What needs more than one crate: the tests' helpers, the simulator, the demo.

pub mod binaries;
