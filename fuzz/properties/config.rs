//! Configuration files and environment variables.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use procstar::config::keys::KEYS;
use procstar::config::{Env, Layer, Loaded, Sources, load};

use super::Input;

/// A secret that no message may contain.
const SECRET: &str = "Zq9-do-not-show";

/// Reads the input as a file, and as an environment: a byte for the variable, its value, a newline.
pub fn check(data: &[u8]) {
    if let Ok(loaded) = file(data) {
        shown_again(&loaded);
    }
    let (mut env, mut utf8) = (Env::new(), true);
    for line in data.split(|byte| *byte == b'\n') {
        let mut line = Input(line);
        if let Some(key) = KEYS.get(usize::from(line.byte())) {
            if std::str::from_utf8(line.0).is_err() {
                utf8 = false;
            }
            env.insert(key.variable.into(), OsStr::from_bytes(line.0).into());
        }
    }
    // `config show` prints a path that is not UTF-8 as bytes, which a file cannot contain.
    if let (Ok(loaded), true) = (from(b"", &env), utf8) {
        shown_again(&loaded);
    }
    keeps_secrets(data);
}

fn file(text: &[u8]) -> Result<Loaded, String> {
    from(text, &Env::new())
}

fn from(text: &[u8], env: &Env) -> Result<Loaded, String> {
    let read = |path: &Path| match path.to_str() {
        Some("/etc/procstar.toml") => Ok(text.to_vec()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let system_file = Path::new("/etc/procstar.toml");
    let sources = Sources { env, system_file, read: &read, trust: &|_, _| Ok(()) };
    load(&sources, None, Layer::default()).map_err(|error| {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message += &cause.to_string();
            source = cause.source();
        }
        assert!(!message.is_empty());
        message
    })
}

/// A file with the output of `config show` results in the same settings.
fn shown_again(loaded: &Loaded) {
    let mut text = String::new();
    for key in KEYS.iter().filter(|key| !key.kind.is_secret()) {
        let shown = loaded.settings.shown(key.path);
        // TOML has no null.
        if let Ok(value) = toml::Value::try_from(&shown) {
            text += &format!("{} = {value}\n", key.path);
        }
    }
    let again = match file(text.as_bytes()) {
        Ok(again) => again,
        Err(message) => panic!("{message}\n{text}"),
    };
    for key in KEYS.iter().filter(|key| !key.kind.is_secret()) {
        let (shown, again) = (loaded.settings.shown(key.path), again.settings.shown(key.path));
        assert_eq!(shown, again, "{}", key.path);
    }
}

/// No error message about a file contains a secret of the file.
fn keeps_secrets(data: &[u8]) {
    if data.windows(4).any(|bytes| SECRET.as_bytes().starts_with(bytes)) {
        return;
    }
    let line = format!("agent.token = \"{SECRET}\"\n");
    for text in [[line.as_bytes(), data].concat(), [data, b"\n", line.as_bytes()].concat()] {
        if let Err(message) = file(&text) {
            assert!(!message.contains(SECRET), "{message}");
        }
    }
}
