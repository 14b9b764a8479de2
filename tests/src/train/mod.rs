//! `cargo xtask train`: traces in, a network's weights and what it saw out.

pub mod baseline;
pub mod data;
pub mod hybrid;
