//! Sparse files: a process can give its output any length at no cost, by `truncate` on its own
//! file. Readers return zeros for holes without reading the file, which would fill the page cache.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Shorter files are read without a search for holes.
const WORTH: u64 = 1024 * 1024;
/// The unit of `st_blocks`.
const BLOCK: u64 = 512;

/// The stretch of a file at some position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// A hole of this many bytes.
    Hole(u64),
    /// At least one byte of data, or the end of the file.
    Data,
}

/// The known holes of one file: the last hole and the last stretch of data.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes {
    /// Whether the file has holes; `None` before the first look.
    sparse: Option<bool>,
    hole: (u64, u64),
    data: (u64, u64),
}

impl Holes {
    /// The stretch at `position`. If the file system does not support the search, everything is
    /// data.
    pub(super) fn at(&mut self, file: &File, position: u64) -> Stretch {
        if !*self.sparse.get_or_insert_with(|| is_sparse(file)) || within(position, self.data) {
            return Stretch::Data;
        }
        if !within(position, self.hole) {
            match next_data(file, position) {
                Ok(at) if at > position => self.hole = (position, at),
                Ok(_) => {
                    let end = seek(file, position, libc::SEEK_HOLE).unwrap_or(position);
                    self.data = (position, end);
                    return Stretch::Data;
                }
                Err(_) => {
                    self.sparse = Some(false);
                    return Stretch::Data;
                }
            }
        }
        Stretch::Hole(self.hole.1 - position)
    }
}

fn within(position: u64, (from, to): (u64, u64)) -> bool {
    from <= position && position < to
}

/// Whether a file takes less disk space than its length.
fn is_sparse(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.len() >= WORTH && meta.blocks() * BLOCK < meta.len())
}

/// The offset of the next data; `position` itself beyond the end of the file.
fn next_data(file: &File, position: u64) -> io::Result<u64> {
    match seek(file, position, libc::SEEK_DATA) {
        // Only a hole or nothing follows.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            Ok(file.metadata()?.len().max(position))
        }
        found => found,
    }
}

/// Seeks. The file's position has no effect on readers, which use `pread`.
fn seek(file: &File, position: u64, whence: libc::c_int) -> io::Result<u64> {
    let position = libc::off_t::try_from(position).map_err(io::Error::other)?;
    // SAFETY: lseek touches no memory of ours.
    let found = unsafe { libc::lseek(file.as_raw_fd(), position, whence) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const TERABYTE: u64 = 1 << 40;

    #[test]
    fn holes_are_known_between_data_and_at_the_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(TERABYTE).unwrap();
        let block = [1; 65536];
        file.write_all_at(&block, 0).unwrap();
        file.write_all_at(&block, TERABYTE / 2).unwrap();
        let mut holes = Holes::default();
        assert_eq!(holes.at(&file, 5), Stretch::Data);
        assert_eq!(holes.at(&file, 65536), Stretch::Hole(TERABYTE / 2 - 65536));
        assert_eq!(holes.at(&file, TERABYTE / 2 - 1), Stretch::Hole(1));
        assert_eq!(holes.at(&file, TERABYTE / 2), Stretch::Data);
        let end = TERABYTE / 2 + 65536;
        assert_eq!(holes.at(&file, end), Stretch::Hole(TERABYTE - end));
        // Backwards, and beyond the end.
        assert_eq!(holes.at(&file, 65537), Stretch::Hole(TERABYTE / 2 - 65537));
        assert_eq!(holes.at(&file, TERABYTE + 7), Stretch::Data);
    }

    #[test]
    fn a_full_file_has_data_everywhere() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![1; 2 * WORTH as usize], 0).unwrap();
        let mut holes = Holes::default();
        for position in [0, WORTH, 2 * WORTH - 1, 2 * WORTH] {
            assert_eq!(holes.at(&file, position), Stretch::Data);
        }
    }
}
