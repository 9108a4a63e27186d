//! The `procstar` program.
fn main() {}
