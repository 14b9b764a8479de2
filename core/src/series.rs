//! A workload's history.
