//! The kernel programs: `cargo xtask build-ebpf` compiles them for the eBPF target; anywhere else this is empty.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![allow(unsafe_code, reason = "programs talk to the kernel through raw pointers")]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
