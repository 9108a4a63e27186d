//! Checks the size of arguments and variables, because the kernel's error names no size.

use nix::sys::resource::{Resource as Limited, getrlimit};

use super::environment::{Environment, Size};
use crate::engine::failure::{Stage, StartFailure};
use crate::mem::page_size;
use crate::spec::{Bound, Resource, ValidatedProc};

/// The kernel's smallest and largest limit (`ARG_MAX`).
const LEAST: u64 = 128 * 1024;
const MOST: u64 = 6 * 1024 * 1024;

/// The kernel's limits for an exec.
struct Room {
    /// The longest argument or variable, without its NUL.
    longest: usize,
    /// The total, with NULs and the lists of pointers.
    all: u64,
}

impl Room {
    /// The limits for this soft stack limit, `None` for an unlimited one: see execve(2).
    fn of(stack: Option<u64>) -> Room {
        let longest = page_size() * 32 - 1;
        let all = stack.map_or(MOST, |stack| stack / 4).clamp(LEAST, MOST);
        Room { longest, all }
    }

    /// The part that is too large, with its size and the limit.
    fn exceeded_by(&self, args: &[String], variables: &Size) -> Option<String> {
        let arg = args.iter().enumerate().find(|(_, arg)| arg.len() > self.longest);
        if let Some((index, arg)) = arg {
            let (size, most) = (arg.len(), self.longest);
            return Some(format!("argument {index} has {size} bytes; the kernel takes {most}"));
        }
        if variables.longest > self.longest {
            let (name, size) = (variables.name.as_deref().unwrap_or_default(), variables.longest);
            let most = self.longest;
            return Some(format!("variable {name} has {size} bytes; the kernel takes {most}"));
        }
        let strings = args.iter().map(|arg| arg.len() + 1).sum::<usize>() + variables.bytes;
        let pointers = (args.len() + variables.count) * size_of::<*const u8>();
        let size = (strings + pointers) as u64;
        (size > self.all).then(|| {
            let most = self.all;
            format!("arguments and variables have {size} bytes; the kernel takes {most}, by the stack's limit")
        })
    }
}

/// Checks the size of arguments and variables. The kernel also counts the program's path, so it may
/// refuse sizes that pass here.
///
/// # Errors
/// The `E2BIG` of an exec, with size and limit.
pub(super) fn check(proc: &ValidatedProc, environment: &Environment) -> Result<(), StartFailure> {
    let stack = match proc.attributes.limits.get(&Resource::Stack) {
        Some(pair) => match pair.soft {
            Bound::Value(soft) => Some(soft),
            Bound::Unlimited => None,
        },
        None => {
            let ours = getrlimit(Limited::RLIMIT_STACK).map_or(0, |(soft, _)| soft);
            Some(ours).filter(|soft| *soft != libc::RLIM_INFINITY)
        }
    };
    match Room::of(stack).exceeded_by(&proc.argv, &environment.size) {
        None => Ok(()),
        detail => {
            let (stage, path) = (Stage::Exec { missing: false }, Some(proc.exe.clone()));
            Err(StartFailure { detail, ..StartFailure::new(stage, libc::E2BIG, path) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_the_kernels() {
        let room = |stack| Room::of(stack).all;
        assert_eq!([room(Some(8 << 20)), room(Some(0)), room(None)], [2 << 20, LEAST, MOST]);
        let longest = Room::of(None).longest;
        let room = Room { longest: 10, all: 100 };
        let args = |sizes: &[usize]| sizes.iter().map(|size| "x".repeat(*size)).collect::<Vec<_>>();
        assert_eq!(longest % page_size(), page_size() - 1);
        // 19 bytes each, with a NUL and a pointer.
        let variable =
            |size| Size { count: 1, bytes: size + 1, longest: size, name: Some("V".into()) };
        assert_eq!(room.exceeded_by(&args(&[10; 4]), &variable(10)), None);
        for (args, variables, error) in [
            (args(&[1, 11]), Size::default(), "argument 1 has 11 bytes; the kernel takes 10"),
            (args(&[1]), variable(11), "variable V has 11 bytes; the kernel takes 10"),
            (
                args(&[10; 5]),
                variable(10),
                "arguments and variables have 114 bytes; the kernel takes 100, by the stack's limit",
            ),
        ] {
            assert_eq!(room.exceeded_by(&args, &variables).as_deref(), Some(error));
        }
    }
}
