//! The position of the word that is completed, in the command line before it.

use clap::{Arg, Command};

/// The position of the last word.
pub(super) struct Place<'c> {
    pub(super) root: &'c Command,
    pub(super) command: &'c Command,
    /// The option whose value it is.
    pub(super) pending: Option<&'c Arg>,
    /// The words before it that are no options: those of the command only.
    pub(super) given: Vec<&'c str>,
    /// Options that choose the instance, with their values.
    pub(super) target: Vec<&'c str>,
    /// Whether `--` stands before it.
    pub(super) raw: bool,
}
