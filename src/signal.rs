//! Names of signals, as Linux numbers them on x86-64 and aarch64.
//!
//! Real-time signals are counted as programs see them under glibc: 34 is `SIGRTMIN`, 35 to 63 are
//! `SIGRTMIN+1` to `SIGRTMIN+29`, 64 is `SIGRTMAX`. The kernel's first two, 32 and 33, which glibc
//! keeps for itself, have no name there; a process may still die by one, so they are called `SIG32`
//! and `SIG33`.

use std::borrow::Cow;

use crate::text::distance;

/// `SIGRTMIN` under glibc.
const RTMIN: i32 = 34;
/// `SIGRTMAX`, the last signal.
const RTMAX: i32 = 64;

/// Names of signals 1 to 64, in order.
const NAMES: [&str; 64] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
    "SIG32",
    "SIG33",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+16",
    "SIGRTMIN+17",
    "SIGRTMIN+18",
    "SIGRTMIN+19",
    "SIGRTMIN+20",
    "SIGRTMIN+21",
    "SIGRTMIN+22",
    "SIGRTMIN+23",
    "SIGRTMIN+24",
    "SIGRTMIN+25",
    "SIGRTMIN+26",
    "SIGRTMIN+27",
    "SIGRTMIN+28",
    "SIGRTMIN+29",
    "SIGRTMAX",
];

/// Other names that clients may send, without `SIG`.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// A name from the table above, or one that was read from a report.
pub type SignalName = Cow<'static, str>;

/// The name of a signal, with `SIG`; `None` where `signum` is not in 1 to 64.
pub fn signal_name(signum: i32) -> Option<&'static str> {
    let index = usize::try_from(signum.checked_sub(1)?).ok()?;
    NAMES.get(index).copied()
}

/// The error of a text that is not a signal, with the name most likely meant.
pub fn unknown(given: &str) -> String {
    let upper = given.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let near = NAMES
        .iter()
        .filter(|_| name.chars().any(char::is_alphabetic))
        .map(|known| (distance(name, known.trim_start_matches("SIG")), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (name.len() / 4).clamp(1, 3));
    let meant = near.map_or(String::new(), |(_, name)| format!("; did you mean {name}?"));
    format!(
        "unknown signal {given:?}: expected a name such as TERM or SIGTERM ('kill -l' lists them), or a number from 1 to 64{meant}"
    )
}

/// The number of a signal that is given by name or number: `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`,
/// `RTMAX-1`. Case does not matter. `None` for anything that is not one of signals 1 to 64.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Some(number) = decimal(text) {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // First: the names of the table for real-time signals are a part of these.
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX, offset);
    }
    let named = (1..).zip(NAMES).find(|(_, known)| known.strip_prefix("SIG") == Some(name));
    let alias = || ALIASES.iter().find(|(known, _)| *known == name);
    named.map(|(number, _)| number).or_else(|| alias().map(|(_, number)| *number))
}

/// The names of the signals of a set, in order of number; signal N is bit N - 1, as in
/// `/proc/PID/stat`.
pub fn signal_set(bits: u64) -> Vec<SignalName> {
    NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits & (1 << bit) != 0)
        .map(|(_, name)| Cow::Borrowed(*name))
        .collect()
}

/// `base` moved by `offset`, which is empty or a sign and digits, where that is a real-time signal.
fn real_time(base: i32, offset: &str) -> Option<i32> {
    let number = if offset.is_empty() {
        base
    } else if let Some(up) = offset.strip_prefix('+') {
        base.checked_add(decimal(up)?)?
    } else {
        base.checked_sub(decimal(offset.strip_prefix('-')?)?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// Digits only: the standard parser would take a sign too.
fn decimal(text: &str) -> Option<i32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_the_c_library() {
        assert_eq!(signal_name(0), None);
        assert_eq!(signal_name(65), None);
        assert_eq!(signal_name(i32::MIN), None);
        for signal in nix::sys::signal::Signal::iterator() {
            assert_eq!(signal_name(signal as i32), Some(signal.as_str()));
        }
        assert_eq!(signal_name(16), Some("SIGSTKFLT"));
        assert_eq!(signal_name(libc::SIGRTMIN()), Some("SIGRTMIN"));
        assert_eq!(signal_name(libc::SIGRTMAX()), Some("SIGRTMAX"));
        assert_eq!(signal_name(37), Some("SIGRTMIN+3"));
    }

    #[test]
    fn numbers_are_found_by_every_usual_spelling() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMIN+3", 37),
            ("SIGRTMIN+30", 64),
            ("SIGRTMAX-30", 34),
            ("RTMAX", 64),
            ("64", 64),
            ("SIG32", 32),
            ("IOT", 6),
            ("SIGCLD", 17),
            ("SIGPOLL", 29),
        ] {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        for text in [
            "",
            "0",
            "65",
            "-9",
            "+9",
            "9 ",
            "SIG",
            "SIGSIGTERM",
            "TERMINATE",
            "SIGRTMIN+31",
            "SIGRTMIN-1",
            "SIGRTMIN3",
            "SIGRTMIN++3",
            "SIGRTMIN+",
            "SIGRTMAX+1",
            "SIGRTMIN+2147483647",
            "99999999999999999999",
            "ſIGTERM",
        ] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        for signum in 1..=64 {
            assert_eq!(signal_number(signal_name(signum).unwrap()), Some(signum));
        }
    }

    #[test]
    fn sets_list_names_in_order() {
        assert!(signal_set(0).is_empty());
        assert_eq!(signal_set(1 | 1 << 14 | 1 << 63), ["SIGHUP", "SIGTERM", "SIGRTMAX"]);
        assert_eq!(signal_set(u64::MAX).len(), 64);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_number_out_of_range(text in ".{0,12}|(SIG)?RT(MIN|MAX)[-+]?[0-9]{0,11}") {
            if let Some(number) = signal_number(&text) {
                prop_assert!((1..=64).contains(&number));
            }
        }
    }
}
