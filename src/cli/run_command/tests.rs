//! Options of `procstar run` to specs, ends to exit codes.
