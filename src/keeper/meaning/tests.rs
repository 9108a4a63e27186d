//! Every cell of the table in `docs/reference/operations.md`.

use super::*;
use crate::signal::signal_name;

const MODES: [Mode; 3] = [Mode::Service, Mode::OneShot, Mode::Foreground];
const TERMINALS: [Terminal; 3] = [Terminal::None, Terminal::Open, Terminal::HungUp];

const TERMINATE: Meaning = Meaning::ShutDown(ShutdownCommand::Terminate);
const ALONE: Meaning = Meaning::PassOn { group: false };
const GROUP: Meaning = Meaning::PassOn { group: true };

/// The row of a signal that is read: for each mode, its meaning without a terminal, with one, and
/// after the terminal was closed.
fn row(signum: i32) -> [[Meaning; 3]; 3] {
    let any = |meaning| [meaning; 3];
    let upgrade = Meaning::Upgrade;
    match signum {
        libc::SIGHUP => [[upgrade, upgrade, TERMINATE], any(TERMINATE), any(TERMINATE)],
        libc::SIGINT => [any(Meaning::ShutDown(ShutdownCommand::Interrupt)); 3],
        libc::SIGQUIT => [any(Meaning::ShutDown(ShutdownCommand::Kill)); 3],
        libc::SIGTERM => [any(TERMINATE); 3],
        libc::SIGUSR1 => [
            any(Meaning::ShutDown(ShutdownCommand::Idle)),
            any(Meaning::ShutDown(ShutdownCommand::Idle)),
            any(ALONE),
        ],
        libc::SIGUSR2 => [any(upgrade), any(TERMINATE), any(ALONE)],
        libc::SIGWINCH => [any(Meaning::Nothing), any(Meaning::Nothing), any(GROUP)],
        _ => [any(Meaning::Ignored), any(TERMINATE), any(ALONE)],
    }
}

#[test]
fn each_signal_has_its_documented_meaning() {
    for signum in ALL {
        for (mode, by_terminal) in MODES.into_iter().zip(row(signum)) {
            for (terminal, wanted) in TERMINALS.into_iter().zip(by_terminal) {
                let wanted =
                    if receipt(signum) == Receipt::Read { wanted } else { Meaning::Nothing };
                let name = signal_name(signum).unwrap();
                assert_eq!(meaning(signum, mode, terminal), wanted, "{name} {mode:?} {terminal:?}");
            }
        }
    }
}

#[test]
fn only_faults_and_job_control_keep_their_default() {
    let of = |wanted| -> Vec<&str> {
        let numbers = ALL.filter(|signum| receipt(*signum) == wanted);
        numbers.map(|signum| signal_name(signum).unwrap()).collect()
    };
    assert_eq!(
        of(Receipt::Default),
        [
            "SIGILL", "SIGBUS", "SIGFPE", "SIGKILL", "SIGSEGV", "SIGCHLD", "SIGCONT", "SIGSTOP",
            "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG"
        ]
    );
    assert_eq!(of(Receipt::Discarded), ["SIGPIPE", "SIGXFSZ", "SIG32", "SIG33"]);
    assert_eq!(of(Receipt::Read).len(), 64 - 12 - 4);
}

#[test]
fn before_any_start_a_terminating_signal_ends_the_program() {
    let ends = |signum, mode| ends_before_start(signum, mode, Terminal::None);
    for signum in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        for mode in [None, Some(Mode::Service), Some(Mode::OneShot), Some(Mode::Foreground)] {
            assert!(ends(signum, mode), "{signum} {mode:?}");
        }
    }
    for signum in [libc::SIGHUP, libc::SIGALRM, libc::SIGUSR2, 64] {
        assert!(!ends(signum, None) && !ends(signum, Some(Mode::Service)), "{signum}");
        assert!(ends(signum, Some(Mode::OneShot)) && ends(signum, Some(Mode::Foreground)));
    }
    // These signals wait for the first process.
    assert!(
        !ends(libc::SIGUSR1, Some(Mode::OneShot)) && ends(libc::SIGUSR1, Some(Mode::Foreground))
    );
    assert!(!ends(libc::SIGWINCH, Some(Mode::Foreground)));
    for mode in [None, Some(Mode::Service), Some(Mode::OneShot), Some(Mode::Foreground)] {
        assert!(ends_before_start(libc::SIGHUP, mode, Terminal::HungUp), "{mode:?}");
    }
    assert!(!ends_before_start(libc::SIGHUP, None, Terminal::Open));
}

/// The page has a row for each signal, and no other row.
#[test]
fn the_page_names_every_signal() {
    let page = include_str!("../../../docs/reference/operations.md");
    for signum in ALL {
        let name = signal_name(signum).unwrap();
        let shown = if (34..=64).contains(&signum) { "SIGRTMIN" } else { name };
        let shown = if (32..=33).contains(&signum) { "32, 33" } else { shown };
        let table = page.split("## Signals").nth(1).unwrap_or_default();
        let table = table.split("\n## ").next().unwrap_or_default();
        assert!(
            table.lines().any(|line| line.starts_with('|') && line.contains(shown)),
            "{name} is missing"
        );
    }
}
