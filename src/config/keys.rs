//! The table of all settings: name, kind of value, variable and flag.

use crate::config::kind::Kind;
use crate::text::distance;

/// One setting, as every layer knows it.
#[derive(Debug, PartialEq)]
pub struct Key {
    /// The dotted name, as in a file: `agent.connect.interval_max`.
    pub path: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// Its environment variable. For all but `agent.group_id`, whose name existing deployments
    /// fix, it is `PROCSTAR_` and the path in capitals, joined by `_`.
    pub variable: &'static str,
    /// Its long flag, with the dashes.
    pub flag: Option<&'static str>,
}

const fn key(
    path: &'static str,
    kind: Kind,
    variable: &'static str,
    flag: Option<&'static str>,
) -> Key {
    Key { path, kind, variable, flag }
}

/// Every setting, in the order in which it is shown.
pub const KEYS: &[Key] = &[
    key("log.level", Kind::Level, "PROCSTAR_LOG_LEVEL", Some("--log-level")),
    key("log.format", Kind::Format, "PROCSTAR_LOG_FORMAT", Some("--log-format")),
    key(
        "run.allowed_executables",
        Kind::Globs,
        "PROCSTAR_RUN_ALLOWED_EXECUTABLES",
        Some("--restrict-exe"),
    ),
    key("run.allowed_variables", Kind::Variables, "PROCSTAR_RUN_ALLOWED_VARIABLES", None),
    key("run.allowed_directories", Kind::Directories, "PROCSTAR_RUN_ALLOWED_DIRECTORIES", None),
    key("run.state_dir", Kind::Path, "PROCSTAR_RUN_STATE_DIR", Some("--state-dir")),
    key("run.runtime_dir", Kind::Path, "PROCSTAR_RUN_RUNTIME_DIR", None),
    key("run.wait_timeout", Kind::Seconds, "PROCSTAR_RUN_WAIT_TIMEOUT", Some("--wait-timeout")),
    key("run.cgroup_parent", Kind::Path, "PROCSTAR_RUN_CGROUP_PARENT", None),
    key("run.max_file_size", Kind::Bytes, "PROCSTAR_RUN_MAX_FILE_SIZE", None),
    key("run.gain_privileges", Kind::Switch, "PROCSTAR_RUN_GAIN_PRIVILEGES", None),
    key("run.max_running", Kind::Count, "PROCSTAR_RUN_MAX_RUNNING", None),
    key("run.max_processes", Kind::Count, "PROCSTAR_RUN_MAX_PROCESSES", None),
    key("capture.dir", Kind::Path, "PROCSTAR_CAPTURE_DIR", None),
    key("capture.drain_timeout", Kind::Seconds, "PROCSTAR_CAPTURE_DRAIN_TIMEOUT", None),
    key("capture.keep_head", Kind::Bytes, "PROCSTAR_CAPTURE_KEEP_HEAD", None),
    key("capture.keep_tail", Kind::Bytes, "PROCSTAR_CAPTURE_KEEP_TAIL", None),
    key("capture.max_inline", Kind::Bytes, "PROCSTAR_CAPTURE_MAX_INLINE", None),
    key("capture.max_total", Kind::Size, "PROCSTAR_CAPTURE_MAX_TOTAL", None),
    key("sampling.interval", Kind::Period, "PROCSTAR_SAMPLING_INTERVAL", None),
    key("sampling.max_samples", Kind::Count, "PROCSTAR_SAMPLING_MAX_SAMPLES", None),
    key("http.enabled", Kind::Switch, "PROCSTAR_HTTP_ENABLED", Some("--serve")),
    key("http.port", Kind::ListenPort, "PROCSTAR_HTTP_PORT", Some("--http-port")),
    key("http.bind", Kind::Address, "PROCSTAR_HTTP_BIND", Some("--http-bind")),
    key("http.socket", Kind::Path, "PROCSTAR_HTTP_SOCKET", None),
    key("http.token", Kind::HttpToken, "PROCSTAR_HTTP_TOKEN", None),
    key("http.require_token", Kind::Switch, "PROCSTAR_HTTP_REQUIRE_TOKEN", None),
    key("http.tls_cert", Kind::Path, "PROCSTAR_HTTP_TLS_CERT", None),
    key("http.tls_key", Kind::Path, "PROCSTAR_HTTP_TLS_KEY", None),
    key("http.client_ca", Kind::Path, "PROCSTAR_HTTP_CLIENT_CA", None),
    key("http.max_connections", Kind::Count, "PROCSTAR_HTTP_MAX_CONNECTIONS", None),
    key(
        "http.unauthenticated_connections",
        Kind::Count,
        "PROCSTAR_HTTP_UNAUTHENTICATED_CONNECTIONS",
        None,
    ),
    key(
        "http.unauthenticated_per_source",
        Kind::Count,
        "PROCSTAR_HTTP_UNAUTHENTICATED_PER_SOURCE",
        None,
    ),
    key(
        "http.unauthenticated_timeout",
        Kind::Period,
        "PROCSTAR_HTTP_UNAUTHENTICATED_TIMEOUT",
        None,
    ),
    key("http.handshake_timeout", Kind::Period, "PROCSTAR_HTTP_HANDSHAKE_TIMEOUT", None),
    key("http.header_timeout", Kind::Period, "PROCSTAR_HTTP_HEADER_TIMEOUT", None),
    key("http.max_body", Kind::Size, "PROCSTAR_HTTP_MAX_BODY", None),
    key("agent.enabled", Kind::Switch, "PROCSTAR_AGENT_ENABLED", Some("--agent")),
    key("agent.host", Kind::Host, "PROCSTAR_AGENT_HOST", Some("--agent-host")),
    key("agent.port", Kind::Port, "PROCSTAR_AGENT_PORT", Some("--agent-port")),
    key("agent.group_id", Kind::Text, "PROCSTAR_GROUP_ID", Some("--group-id")),
    key("agent.conn_id", Kind::Name, "PROCSTAR_AGENT_CONN_ID", Some("--conn-id")),
    key("agent.cert", Kind::Path, "PROCSTAR_AGENT_CERT", None),
    key("agent.ca", Kind::Path, "PROCSTAR_AGENT_CA", Some("--agent-ca")),
    key("agent.token", Kind::AgentToken, "PROCSTAR_AGENT_TOKEN", None),
    key(
        "agent.connect.interval_start",
        Kind::Seconds,
        "PROCSTAR_AGENT_CONNECT_INTERVAL_START",
        Some("--connect-interval-start"),
    ),
    key(
        "agent.connect.interval_mult",
        Kind::Factor,
        "PROCSTAR_AGENT_CONNECT_INTERVAL_MULT",
        Some("--connect-interval-mult"),
    ),
    key(
        "agent.connect.interval_max",
        Kind::Seconds,
        "PROCSTAR_AGENT_CONNECT_INTERVAL_MAX",
        Some("--connect-interval-max"),
    ),
    key(
        "agent.connect.count_max",
        Kind::Count,
        "PROCSTAR_AGENT_CONNECT_COUNT_MAX",
        Some("--connect-count-max"),
    ),
    key("agent.register_timeout", Kind::Period, "PROCSTAR_AGENT_REGISTER_TIMEOUT", None),
    key("agent.ping_interval", Kind::Period, "PROCSTAR_AGENT_PING_INTERVAL", None),
    key(
        "agent.read_timeout",
        Kind::Period,
        "PROCSTAR_AGENT_READ_TIMEOUT",
        Some("--agent-read-timeout"),
    ),
    key("agent.max_message", Kind::Size, "PROCSTAR_AGENT_MAX_MESSAGE", None),
    key("agent.push_interval", Kind::Period, "PROCSTAR_AGENT_PUSH_INTERVAL", None),
    key("shutdown.term_grace", Kind::Seconds, "PROCSTAR_SHUTDOWN_TERM_GRACE", None),
    key("shutdown.kill_grace", Kind::Seconds, "PROCSTAR_SHUTDOWN_KILL_GRACE", None),
];

/// A second name of a setting, which existing deployments use.
#[derive(Debug, PartialEq)]
pub struct Alias {
    /// The dotted name, as in a file.
    pub path: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The setting.
    pub of: &'static str,
}

/// Every second name.
pub const ALIASES: &[Alias] = &[Alias {
    path: "run.restrict_exe",
    variable: "PROCSTAR_RUN_RESTRICT_EXE",
    of: "run.allowed_executables",
}];

/// Names that are no settings, but that users of earlier versions and of similar programs write,
/// and the settings that they mean. Spelling alone does not lead from one to the other.
const SYNONYMS: &[(&str, &str)] = &[
    ("agent.connect.max_attempts", "agent.connect.count_max"),
    ("agent.server", "agent.host"),
    ("capture.drain_grace", "capture.drain_timeout"),
    ("capture.limit_head", "capture.keep_head"),
    ("capture.limit_tail", "capture.keep_tail"),
    ("capture.max_size", "capture.keep_tail"),
    ("http.address", "http.bind"),
    ("http.body_limit", "http.max_body"),
    ("http.connections", "http.max_connections"),
    ("http.head_timeout", "http.header_timeout"),
    ("http.host", "http.bind"),
    ("http.listen", "http.bind"),
    ("http.serve", "http.enabled"),
    ("http.serve_port", "http.port"),
    ("log.verbosity", "log.level"),
    ("run.allowlist", "run.allowed_executables"),
    ("sampling.count", "sampling.max_samples"),
];

/// The setting of that dotted name, which may be an [alias](ALIASES).
pub fn find(path: &str) -> Option<&'static Key> {
    let alias = ALIASES.iter().find(|alias| alias.path == path);
    let path = alias.map_or(path, |alias| alias.of);
    KEYS.iter().find(|key| key.path == path)
}

/// The setting that an unknown variable means by a synonym: `PROCSTAR_HTTP_SERVE`.
pub(crate) fn of_synonym(variable: &str) -> Option<&'static Key> {
    let is_named = |(synonym, _): &&(&str, &str)| {
        let systematic = synonym.replace('.', "_").to_uppercase();
        let without_section = last(synonym).to_uppercase();
        let rest = variable.strip_prefix("PROCSTAR_");
        // A single word, such as HOST, may be another program's.
        let moved = without_section.contains('_');
        rest.is_some_and(|rest| rest == systematic || (moved && rest == without_section))
    };
    SYNONYMS.iter().find(is_named).and_then(|(_, meant)| find(meant))
}

/// Whether `path` is a table that holds settings: `agent`, `agent.connect`.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The known setting or section that the writer of the unknown `path` most likely meant: the
/// nearest by spelling; or one of the same last name, moved to another section.
pub fn hint(path: &str) -> Option<&'static str> {
    let normal = path.to_lowercase().replace('-', "_");
    if let Some((_, meant)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == normal) {
        return Some(meant);
    }
    let limit = (normal.len() / 5).clamp(2, 3);
    let sections = KEYS.iter().filter_map(|key| key.path.rsplit_once('.').map(|(s, _)| s));
    let near = KEYS
        .iter()
        .map(|key| key.path)
        .chain(sections)
        .map(|known| (distance(&normal, known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= limit);
    let moved = || KEYS.iter().map(|key| key.path).find(|known| last(known) == last(&normal));
    near.map(|(_, known)| known).or_else(moved)
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_systematic_and_unique() {
        for key in KEYS {
            let systematic = format!("PROCSTAR_{}", key.path.replace('.', "_").to_uppercase());
            if key.path == "agent.group_id" {
                assert_eq!(key.variable, "PROCSTAR_GROUP_ID");
            } else {
                assert_eq!(key.variable, systematic);
            }
            assert_eq!(KEYS.iter().filter(|other| other.path == key.path).count(), 1);
            assert_eq!(find(key.path), Some(key));
            assert!(!is_section(key.path), "{} is a key and a section", key.path);
        }
        for alias in ALIASES {
            assert_eq!(find(alias.path), find(alias.of), "{alias:?}");
            assert!(KEYS.iter().all(|key| key.path != alias.path), "{alias:?}");
        }
        for (synonym, meant) in SYNONYMS {
            assert!(find(synonym).is_none() && find(meant).is_some(), "{synonym}: {meant}");
        }
        assert!(is_section("agent") && is_section("agent.connect"));
        assert!(!is_section("agen") && !is_section("") && !is_section("agent.connect.x"));
    }

    #[test]
    fn hints_name_the_intended_key() {
        for (wrong, right) in [
            ("agent.hots", "agent.host"),
            ("agent.group-id", "agent.group_id"),
            ("agent.Port", "agent.port"),
            ("agnet", "agent"),
            ("agent.interval_max", "agent.connect.interval_max"),
            ("level", "log.level"),
            ("shutdwon", "shutdown"),
            ("http.serve", "http.enabled"),
            ("capture.limit_tail", "capture.keep_tail"),
        ] {
            assert_eq!(hint(wrong), Some(right), "{wrong}");
        }
        assert_eq!(hint("agent.colour"), None);
        assert_eq!(hint("xyz"), None);
    }
}
