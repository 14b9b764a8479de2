//! `cargo xtask train`: traces in, a network's weights or a booster and what it saw out.

pub mod baseline;
pub mod data;
pub mod hybrid;
pub mod trees;
