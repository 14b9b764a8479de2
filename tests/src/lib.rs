//! What needs more than one crate: the tests' helpers, the simulator, the demo, the forecast runner.

pub mod aggregator;
pub mod api_server;
pub mod binaries;
pub mod certificates;
pub mod cluster;
pub mod demo;
pub mod forecast;
pub mod kernel;
pub mod openmetrics;
pub mod scratch;
pub mod simulator;
pub mod train;
