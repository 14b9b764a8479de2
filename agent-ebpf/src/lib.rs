//! What the kernel programs and the agent share: map layouts, the latency scale, and the pure parts of the
//! programs (HTTP framing, sequence numbers), so that these are tested on any machine.
#![no_std]

pub mod connection;
pub mod histogram;
pub mod http;
pub mod layout;
pub mod sequence;
