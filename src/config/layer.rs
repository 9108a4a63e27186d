//! Layers of checked values, and their merge by the `config` crate.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use config::{Config, Map, Source, Value, ValueKind};

use crate::config::error::ConfigError;
use crate::config::keys::{KEYS, Key};
use crate::config::kind::Scalar;
use crate::config::settings::Settings;

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No layer has it.
    Default,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// A file that an environment variable names.
    SecretFile {
        /// The variable's name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A file in `$CREDENTIALS_DIRECTORY`.
    Credential {
        /// The file.
        path: PathBuf,
    },
    /// A command-line flag.
    Flag {
        /// The long flag, with the dashes.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable { name } => write!(f, "environment variable {name}"),
            Origin::SecretFile { name, path } => {
                write!(f, "{}, named by environment variable {name}", path.display())
            }
            Origin::Credential { path } => write!(f, "credential {}", path.display()),
            Origin::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// One value of a layer. Its `Debug` omits the value, which may be a secret.
#[derive(Clone)]
pub struct LayerEntry {
    /// The setting.
    pub key: &'static Key,
    /// Its value, admitted by the key's kind.
    pub value: Scalar,
    /// Its origin.
    pub origin: Origin,
}

impl fmt::Debug for LayerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.key.path, self.origin)
    }
}

/// The values of one source; each setting at most once.
#[derive(Debug, Clone, Default)]
pub struct Layer(Vec<LayerEntry>);

impl Layer {
    /// Adds a value.
    pub fn push(&mut self, key: &'static Key, value: Scalar, origin: Origin) {
        self.0.push(LayerEntry { key, value, origin });
    }

    /// Adds a flag's value to the setting that it belongs to; nothing if the flag is absent.
    pub fn push_flag(&mut self, flag: &str, value: Option<Scalar>) {
        let key = KEYS.iter().find(|key| key.flag == Some(flag));
        if let (Some(key), Some(value)) = (key, value) {
            self.push(key, value, Origin::Flag { name: flag.to_owned() });
        }
    }

    /// Whether it has a value for this setting.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.0.iter().any(|entry| entry.key == key)
    }

    /// The values.
    pub fn entries(&self) -> &[LayerEntry] {
        &self.0
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.iter().map(|entry| (entry.key.path.to_owned(), value(entry))).collect())
    }
}

fn value(entry: &LayerEntry) -> Value {
    let kind = match &entry.value {
        Scalar::Switch(value) => ValueKind::Boolean(*value),
        Scalar::Integer(value) => ValueKind::U64(*value),
        Scalar::Number(value) => ValueKind::Float(*value),
        Scalar::Text(value) => ValueKind::String(value.clone()),
        Scalar::Path(path) => path_kind(path),
        Scalar::Paths(paths) => {
            ValueKind::Array(paths.iter().map(|path| Value::new(None, path_kind(path))).collect())
        }
    };
    Value::new(Some(&entry.origin.to_string()), kind)
}

fn path_kind(path: &Path) -> ValueKind {
    match path.to_str() {
        Some(text) => ValueKind::String(text.to_owned()),
        // The crate's strings are UTF-8; bytes pass as an array, which no file can contain here.
        None => ValueKind::Array(path.as_os_str().as_bytes().iter().map(byte).collect()),
    }
}

fn byte(byte: &u8) -> Value {
    Value::new(None, ValueKind::U64((*byte).into()))
}

/// Merges layers over the defaults, the later ones winning; also returns each setting's origin.
///
/// # Errors
/// [`ConfigError::Merge`], if a layer has a value that its key's kind does not admit.
pub(super) fn merge(
    layers: &[Layer],
) -> Result<(Settings, BTreeMap<&'static str, Origin>), ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer.clone());
    }
    let merged = builder.build()?;
    let origins = KEYS.iter().map(|key| (key.path, origin(&merged.cache, layers, key))).collect();
    Ok((merged.try_deserialize()?, origins))
}

/// The origin of the merged value: the `config` crate keeps it as a text, which identifies the
/// layer's entry.
fn origin(merged: &Value, layers: &[Layer], key: &Key) -> Origin {
    let label = walk(merged, key.path).and_then(Value::origin);
    let mut entries = layers.iter().rev().flat_map(Layer::entries);
    let entry = entries.find(|entry| {
        entry.key == key && label.is_some_and(|label| entry.origin.to_string() == label)
    });
    entry.map_or(Origin::Default, |entry| entry.origin.clone())
}

fn walk<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(root, |value, name| match &value.kind {
        ValueKind::Table(table) => table.get(name),
        _ => None,
    })
}

impl Settings {
    /// The value of the setting `path` as `config show` shows it; null for an unknown one.
    pub fn shown(&self, path: &str) -> serde_json::Value {
        let all = serde_json::to_value(self).unwrap_or_default();
        let pointer = format!("/{}", path.replace('.', "/"));
        all.pointer(&pointer).cloned().unwrap_or_default()
    }
}
