//! The steps at which tests let a process of ours die, as if it was killed there. Release builds
//! have none of this.
//!
//! A test sets [`VARIABLE`] to a directory. A process that reaches a point removes the file of the
//! point's name there, and dies if there was one. So a point is due once, and the test sees by the
//! missing file that it was reached.

/// The environment variable with the directory.
pub const VARIABLE: &str = "PROCSTAR_TEST_DEATHS";

/// Defines the points and the list of them, so that no test can miss one.
macro_rules! death_points {
    ($($(#[$doc:meta])* $point:ident,)*) => {
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
        }
    };
}

death_points! {
    /// Output has left its pipe and is in its file, and is not counted yet.
    OutputMoved,
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
