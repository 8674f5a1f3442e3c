//! `cargo xtask`: the gate, the benchmarks, the long runs.
fn main() {}
