//! A simulated host: an environment and files that belong to one test.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procstar::cli::invocation::{Invocation, Run, UsageError};
use procstar::cli::parse::parse_with;
use procstar::cli::show;
use procstar::config::{Env, Settings, Sources};

pub const SYSTEM: &str = "/etc/procstar/procstar.toml";
pub const USER: &str = "/home/me/.config/procstar/procstar.toml";

/// The environment, and files by path; `Err` is the error of reading a file.
#[derive(Default)]
pub struct FakeHost {
    pub env: Env,
    files: BTreeMap<PathBuf, Result<Vec<u8>, io::ErrorKind>>,
}

impl FakeHost {
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().into());
        self
    }

    pub fn file(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), Ok(text.as_ref().to_vec()));
        self
    }

    pub fn failing(mut self, path: &str, error: io::ErrorKind) -> Self {
        self.files.insert(path.into(), Err(error));
        self
    }

    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.files.get(path).cloned().unwrap_or(Err(io::ErrorKind::NotFound));
        Ok(file?)
    }

    pub fn invoke<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Invocation, UsageError> {
        let args = args.iter().map(|arg| arg.as_ref().to_owned());
        let sources = Sources {
            env: &self.env,
            system_file: Path::new(SYSTEM),
            read: &|path| self.read(path),
            trust: &|_, _| Ok(()),
        };
        parse_with(std::iter::once(OsString::from("procstar")).chain(args), &sources)
    }

    pub fn run(&self, args: &[&str]) -> Run {
        match self.invoke(args) {
            Ok(Invocation::Run(run)) => *run,
            Ok(other) => panic!("not a run: {other:?}"),
            Err(error) => panic!("{args:?}: {error}"),
        }
    }

    /// The settings with `--exit`: without an action, the command line is invalid.
    pub fn settings(&self, args: &[&str]) -> Settings {
        self.run(&[&["--exit"], args].concat()).settings
    }

    /// The text of a usage error, whose exit code is 2.
    pub fn refused<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        let error = self.invoke(args).map(|_| ()).expect_err("a usage error");
        assert_eq!(error.exit_code(), 2);
        assert!(!error.is_answer() && error.text().ends_with('\n'));
        error.text().to_owned()
    }

    pub fn shown(&self, args: &[&str]) -> String {
        match self.invoke(args) {
            Ok(Invocation::ConfigShow { loaded, json }) => show::render(&loaded, json),
            other => panic!("{other:?}"),
        }
    }
}

pub fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
