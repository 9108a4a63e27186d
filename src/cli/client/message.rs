//! Messages for the user on standard error.

use crate::cli::printable::printable;

/// Prints a message for the user that is no answer.
pub(super) fn print_message(text: &str) {
    let lines: Vec<String> = text.lines().map(printable).collect();
    // There is no other way to the user.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("procstar: {}\n", lines.join("\n")).as_bytes(),
    );
}
