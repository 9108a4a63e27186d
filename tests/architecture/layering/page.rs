//! Reads the table of rooms in a page.

use std::collections::{BTreeMap, BTreeSet};

/// The rooms that each room may use.
pub type Table = BTreeMap<String, BTreeSet<String>>;

/// The rooms of the first table in `page` that has a first column `room` and a last column `may
/// use`. The first column contains the paths of a room, the last one the names of other rooms, both
/// as code. Other words are ignored.
pub fn rooms_of(page: &str) -> Table {
    let rows = page.lines().skip_while(|line| !is_head(line)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let allowed: BTreeSet<String> =
            codes(cells.last().unwrap()).into_iter().map(str::to_owned).collect();
        let rooms: BTreeSet<String> = codes(cells[0]).into_iter().map(room).collect();
        assert!(!rooms.is_empty(), "a row without a path: {row}");
        rooms.into_iter().map(move |room| (room, allowed.clone()))
    })
    .collect()
}

fn is_head(line: &str) -> bool {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    cells.first() == Some(&"room") && cells.last() == Some(&"may use")
}

/// The texts between backquotes.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The room of a path such as `src/trust.rs` or `src/trust/`.
fn room(path: &str) -> String {
    let name = path.strip_prefix("src/").unwrap_or_else(|| panic!("{path} is not below src/"));
    name.trim_end_matches('/').trim_end_matches(".rs").to_owned()
}
