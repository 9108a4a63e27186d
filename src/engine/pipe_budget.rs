//! The budget of large pipes. All pipes of a user share one allowance of the kernel, and new pipes
//! beyond it get a tiny buffer. So we spend only half of it, on pipes that are read full, each at
//! most a quarter of the rest: the first few get the largest size, and the last of many keep the
//! default.

use std::fs::read_to_string;

/// The default size of a pipe.
pub(super) const DEFAULT: usize = 64 * 1024;
/// The largest useful size of a pipe.
const LARGEST: usize = 1024 * 1024;

/// The rest of the allowance, in bytes.
pub(super) struct PipeBudget {
    largest: usize,
    left: usize,
}

/// The origin of a pipe's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeSize {
    /// The default size.
    Default,
    /// A final size; this many bytes go back to the budget.
    Taken(usize),
}

impl PipeBudget {
    /// The budget by the system's limits.
    pub(super) fn of_system() -> PipeBudget {
        let read = |name| {
            let text = read_to_string(format!("/proc/sys/fs/{name}")).ok()?;
            text.trim().parse::<usize>().ok()
        };
        // 0 pages mean no limit; if the limits cannot be read, assume the kernel's defaults.
        let pages = match read("pipe-user-pages-soft") {
            Some(0) => usize::MAX,
            Some(pages) => pages,
            None => 16 * 1024,
        };
        PipeBudget::new(read("pipe-max-size").unwrap_or(LARGEST), pages)
    }

    fn new(max_size: usize, soft_pages: usize) -> PipeBudget {
        let page = sys_page();
        PipeBudget { largest: max_size.min(LARGEST), left: soft_pages.saturating_mul(page) / 2 }
    }

    /// The size to which one more pipe may grow; `None` to keep its size.
    pub(super) fn offer(&self) -> Option<usize> {
        let size = (self.left / 4).min(self.largest);
        let size = if size.is_power_of_two() { size } else { size.next_power_of_two() / 2 };
        (size > DEFAULT).then_some(size)
    }

    /// Takes a pipe of this size from the budget.
    pub(super) fn take(&mut self, size: usize) {
        self.left = self.left.saturating_sub(size);
    }

    /// Returns a closed pipe of this size to the budget.
    pub(super) fn give_back(&mut self, size: usize) {
        self.left = self.left.saturating_add(size);
    }
}

fn sys_page() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|page| usize::try_from(page).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_get_large_pipes_and_many_keep_theirs() {
        let mut budget = PipeBudget::new(1 << 20, 16 * 1024);
        let all = budget.left;
        let mut given = Vec::new();
        while let Some(size) = budget.offer() {
            budget.take(size);
            given.push(size);
        }
        assert_eq!(given.first(), Some(&(1 << 20)));
        assert!(given.windows(2).all(|pair| pair[1] <= pair[0]), "{given:?}");
        assert!(given.iter().all(|size| size.is_power_of_two() && *size > DEFAULT));
        assert!((20..200).contains(&given.len()), "{}", given.len());
        assert!(given.iter().sum::<usize>() <= all);
        given.into_iter().for_each(|size| budget.give_back(size));
        assert_eq!(budget.left, all);
    }

    #[test]
    fn small_allowances_are_left_alone() {
        assert_eq!(PipeBudget::new(1 << 20, 64).offer(), None);
        assert_eq!(PipeBudget::new(4096, 16 * 1024).offer(), None);
        assert_eq!(PipeBudget::new(1 << 20, usize::MAX).offer(), Some(1 << 20));
    }
}
