//! Layouts shared by the kernel programs and the agent: `no_std`, no dependency.
#![no_std]

pub mod histogram;
