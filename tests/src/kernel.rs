//! Helpers of the kernel tests: a service and clients that know the truth, pods that are cgroups, networks.

pub mod client;
pub mod network;
pub mod pod;
pub mod service;
