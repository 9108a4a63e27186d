//! Text tables.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::out::{Out, Style};
use crate::cli::printable::printable;

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text in a style.
    pub fn styled(text: &str, style: Style) -> Cell {
        Cell { text: printable(text), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::styled(text.as_ref(), Style::Plain)
    }
}

/// A column's heading; numbers are aligned to the right.
#[derive(Clone, Copy, Debug)]
pub enum Head {
    /// Of text.
    Left(&'static str),
    /// Of numbers.
    Right(&'static str),
}

impl Head {
    fn name(self) -> &'static str {
        match self {
            Head::Left(name) | Head::Right(name) => name,
        }
    }
}

/// Rows below headings.
#[derive(Clone, Debug)]
pub struct TextTable {
    heads: Vec<Head>,
    rows: Vec<Vec<Cell>>,
}

impl TextTable {
    /// A table without rows.
    pub fn new(heads: impl Into<Vec<Head>>) -> TextTable {
        TextTable { heads: heads.into(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each heading.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The lines, cut to the width of a terminal in the last column.
    pub fn lines(&self, out: &Out) -> Vec<String> {
        self.render(out.width(), out.colour)
    }

    fn render(&self, width: Option<usize>, colour: bool) -> Vec<String> {
        let widths: Vec<usize> = self
            .heads
            .iter()
            .enumerate()
            .map(|(at, head)| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                cells.map(|cell| cell.text.width()).fold(head.name().len(), usize::max)
            })
            .collect();
        let before: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
        let room = width.map(|width| width.saturating_sub(before).max(4));
        let head = self.heads.iter().map(|head| Cell::styled(head.name(), Style::Bold)).collect();
        std::iter::once(&head)
            .chain(&self.rows)
            .map(|row: &Vec<Cell>| self.line(row, &widths, room, colour))
            .collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize], room: Option<usize>, colour: bool) -> String {
        let mut line = String::new();
        for (at, (cell, head)) in row.iter().zip(&self.heads).enumerate() {
            let last = at + 1 == self.heads.len();
            let text = match room.filter(|_| last) {
                Some(room) => cut(&cell.text, room),
                None => cell.text.clone(),
            };
            let width = widths.get(at).copied().unwrap_or_default();
            let space = " ".repeat(width.saturating_sub(text.width()));
            let text = if colour && !text.is_empty() { cell.style.paint(&text) } else { text };
            match head {
                Head::Right(_) => line.extend([space, text]),
                Head::Left(_) => line.extend([text, space]),
            }
            if !last {
                line.push_str("  ");
            }
        }
        line.truncate(line.trim_end_matches(' ').len());
        line
    }
}

/// The part of a text that fits.
pub fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or_default();
        used < room
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = TextTable::new([Head::Left("ID"), Head::Right("N"), Head::Left("TEXT")]);
        table.push(vec!["日本".into(), "7".into(), "a\x1bb".into()]);
        table.push(vec!["b".into(), "100".into(), Cell::styled("", Style::Red)]);
        table.push(vec!["c".into(), "1".into(), Cell::styled("longer than it", Style::Red)]);
        let plain = "\
ID      N  TEXT
日本    7  a\\x1bb
b     100
c       1  longer than it";
        assert_eq!(table.render(None, false).join("\n"), plain);
        let narrow = table.render(Some(18), true).join("\n");
        assert_eq!(narrow.lines().last(), Some("c       1  \x1b[31mlonger…\x1b[0m"));
        assert!(narrow.starts_with("\x1b[1mID\x1b[0m  "), "{narrow:?}");
    }
}
