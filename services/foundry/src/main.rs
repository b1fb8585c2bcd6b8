//! The binary users run.
fn main() {}
