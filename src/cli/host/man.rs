//! Manual pages, generated from the command line's definition.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use crate::cli::printing::write_public;

/// The command with these names below `root`, complete with the options that it inherits; `None` if
/// it is unknown.
pub(super) fn find(root: &Command, names: &[String]) -> Option<Command> {
    let mut root = root.clone();
    root.build();
    let mut found = &root;
    for name in names {
        found = found.find_subcommand(name)?;
    }
    Some(found.clone())
}

/// The page of one command.
///
/// # Errors
/// The OS error of writing to memory, which cannot occur.
pub(super) fn page(command: &Command) -> io::Result<String> {
    let man = Man::new(command.clone()).manual("Procstar Manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut page = String::from_utf8_lossy(&page).into_owned();
    if let Some(more) = command.get_after_long_help() {
        page.push_str(&literal(&more.to_string()));
    }
    Ok(page)
}

/// A text with its lines unchanged: readers copy examples.
fn literal(text: &str) -> String {
    let mut roff = String::from(".SH NOTES\n.nf\n");
    for line in text.trim_end().lines() {
        // A point or an apostrophe at the beginning would be a request.
        if line.starts_with(['.', '\'']) {
            roff.push_str("\\&");
        }
        roff.push_str(&line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq"));
        roff.push('\n');
    }
    roff.push_str(".fi\n");
    roff
}

/// Writes the pages of a command and of all below it into a directory; returns their paths.
///
/// # Errors
/// The OS error of creating the directory or a file.
pub(super) fn write_all(root: &Command, dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let mut root = root.clone();
    root.build();
    let mut written = Vec::new();
    write(&root, dir, &mut written)?;
    Ok(written)
}

fn write(command: &Command, dir: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let path = dir.join(Man::new(command.clone()).get_filename());
    write_public(&path, page(command)?.as_bytes())?;
    written.push(path);
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below, dir, written)?;
    }
    Ok(())
}
