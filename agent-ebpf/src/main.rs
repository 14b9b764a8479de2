//! The kernel programs (placeholder until the kernel slice lands).
fn main() {}
