//! Messages for the user on standard error.

use crate::cli::printable::printable;

/// Prints a message for the user that is not a result.
pub(super) fn print_message(text: &str) {
    let lines: Vec<String> = text.lines().map(printable).collect();
    // If this fails, no other way to the user is left.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("procstar: {}\n", lines.join("\n")).as_bytes(),
    );
}
