//! The steps at which tests let a process of ours die, as if it was killed there. Release builds
//! have none of this.
//!
//! A test sets [`VARIABLE`] to a directory. A process that reaches a point removes the file of the
//! point's name there, and dies if there was one. So a point is due once, and the test sees by the
//! missing file that it was reached.

/// The environment variable with the directory.
pub const VARIABLE: &str = "PROCSTAR_TEST_DEATHS";

/// The part of the work that a point belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Storing output.
    Capture,
    /// The upgrade of a keeper.
    Upgrade,
    /// The succession of a worker to a keeper that was killed.
    Succession,
}

/// Defines the points and the list of them, so that no test can miss one.
macro_rules! death_points {
    ($($(#[$doc:meta])* $point:ident: $part:ident,)*) => {
        /// A step at which a process may die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DeathPoint {
            $($(#[$doc])* $point,)*
        }

        impl DeathPoint {
            /// Every point.
            pub const ALL: &[DeathPoint] = &[$(DeathPoint::$point,)*];

            /// The name of its file.
            pub fn name(self) -> &'static str {
                match self {
                    $(DeathPoint::$point => stringify!($point),)*
                }
            }

            /// The part of the work.
            pub fn part(self) -> Part {
                match self {
                    $(DeathPoint::$point => Part::$part,)*
                }
            }
        }
    };
}

death_points! {
    /// Output has left its pipe and is in its file, and is not counted yet.
    OutputMoved: Capture,
    /// The new program has answered that it can resume.
    UpgradeChecked: Upgrade,
    /// The worker has ended.
    UpgradeWorkerEnded: Upgrade,
    /// The engine is paused.
    UpgradeQuiesced: Upgrade,
    /// The journal and the state are written, and the new program is not executed yet.
    UpgradeStateWritten: Upgrade,
    /// The new program runs, and has not resumed the engine yet.
    UpgradeResumed: Upgrade,
    /// The engine of the new program runs, and no worker does.
    UpgradeRestored: Upgrade,
    /// The worker has noticed the keeper's death.
    SuccessionBegun: Succession,
    /// Its state is written, and the program is not executed yet.
    SuccessionStateWritten: Succession,
    /// The next keeper runs, and has not adopted the processes yet.
    SuccessionExecuted: Succession,
    /// It has adopted the processes, and no worker runs.
    SuccessionAdopted: Succession,
}

/// Dies if a test wants it.
#[cfg(debug_assertions)]
pub fn reach(point: DeathPoint) {
    static DIR: std::sync::OnceLock<Option<std::path::PathBuf>> = std::sync::OnceLock::new();
    let dir = DIR.get_or_init(|| std::env::var_os(VARIABLE).map(Into::into));
    let due = dir.as_ref().is_some_and(|dir| std::fs::remove_file(dir.join(point.name())).is_ok());
    if due {
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nobody dies in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_: DeathPoint) {}
