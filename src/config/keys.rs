//! The table of every setting: its name, what it may be, its variable and its flag.

use crate::config::kind::Kind;

/// One setting, as every layer knows it.
#[derive(Debug, PartialEq)]
pub struct Key {
    /// The dotted name, as in a file: `agent.connect.interval_max`.
    pub path: &'static str,
    /// What its value may be.
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
    key("run.restrict_exe", Kind::Globs, "PROCSTAR_RUN_RESTRICT_EXE", Some("--restrict-exe")),
    key("run.allowed_variables", Kind::Variables, "PROCSTAR_RUN_ALLOWED_VARIABLES", None),
    key("run.allowed_directories", Kind::Directories, "PROCSTAR_RUN_ALLOWED_DIRECTORIES", None),
    key("run.state_dir", Kind::Path, "PROCSTAR_RUN_STATE_DIR", Some("--state-dir")),
    key("run.runtime_dir", Kind::Path, "PROCSTAR_RUN_RUNTIME_DIR", None),
    key("run.wait_timeout", Kind::Seconds, "PROCSTAR_RUN_WAIT_TIMEOUT", Some("--wait-timeout")),
    key("run.max_file_size", Kind::Bytes, "PROCSTAR_RUN_MAX_FILE_SIZE", None),
    key("run.gain_privileges", Kind::Switch, "PROCSTAR_RUN_GAIN_PRIVILEGES", None),
    key("run.max_running", Kind::Count, "PROCSTAR_RUN_MAX_RUNNING", None),
    key("run.max_processes", Kind::Count, "PROCSTAR_RUN_MAX_PROCESSES", None),
    key("capture.dir", Kind::Path, "PROCSTAR_CAPTURE_DIR", None),
    key("capture.drain_grace", Kind::Seconds, "PROCSTAR_CAPTURE_DRAIN_GRACE", None),
    key("capture.limit_head", Kind::Bytes, "PROCSTAR_CAPTURE_LIMIT_HEAD", None),
    key("capture.limit_tail", Kind::Bytes, "PROCSTAR_CAPTURE_LIMIT_TAIL", None),
    key("capture.max_inline", Kind::Bytes, "PROCSTAR_CAPTURE_MAX_INLINE", None),
    key("capture.max_total", Kind::Count, "PROCSTAR_CAPTURE_MAX_TOTAL", None),
    key("sampling.interval", Kind::Period, "PROCSTAR_SAMPLING_INTERVAL", None),
    key("sampling.count", Kind::Count, "PROCSTAR_SAMPLING_COUNT", None),
    key("http.serve", Kind::Switch, "PROCSTAR_HTTP_SERVE", Some("--serve")),
    key("http.port", Kind::ListenPort, "PROCSTAR_HTTP_PORT", Some("--serve-port")),
    key("http.bind", Kind::Address, "PROCSTAR_HTTP_BIND", Some("--serve-address")),
    key("http.socket", Kind::Path, "PROCSTAR_HTTP_SOCKET", None),
    key("http.token", Kind::HttpToken, "PROCSTAR_HTTP_TOKEN", None),
    key("http.require_token", Kind::Switch, "PROCSTAR_HTTP_REQUIRE_TOKEN", None),
    key("http.tls_cert", Kind::Path, "PROCSTAR_HTTP_TLS_CERT", None),
    key("http.tls_key", Kind::Path, "PROCSTAR_HTTP_TLS_KEY", None),
    key("http.client_ca", Kind::Path, "PROCSTAR_HTTP_CLIENT_CA", None),
    key("http.connections", Kind::Count, "PROCSTAR_HTTP_CONNECTIONS", None),
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
    key("http.head_timeout", Kind::Period, "PROCSTAR_HTTP_HEAD_TIMEOUT", None),
    key("http.body_limit", Kind::Count, "PROCSTAR_HTTP_BODY_LIMIT", None),
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
    key("agent.max_message", Kind::Count, "PROCSTAR_AGENT_MAX_MESSAGE", None),
    key("agent.push_interval", Kind::Period, "PROCSTAR_AGENT_PUSH_INTERVAL", None),
    key("shutdown.term_grace", Kind::Seconds, "PROCSTAR_SHUTDOWN_TERM_GRACE", None),
    key("shutdown.kill_grace", Kind::Seconds, "PROCSTAR_SHUTDOWN_KILL_GRACE", None),
];

/// The setting of that dotted name.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether `path` is a table that holds settings: `agent`, `agent.connect`.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The known setting or section that the writer of the unknown `path` most likely meant: the
/// nearest by spelling; or one of the same last name, moved to another section.
pub fn hint(path: &str) -> Option<&'static str> {
    let normal = path.to_lowercase().replace('-', "_");
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

/// Levenshtein's distance, in characters.
pub(crate) fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, (diagonal, above)) in to.chars().zip(row.iter().zip(row.iter().skip(1))) {
            left = (diagonal + usize::from(a != b)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert!(is_section("agent") && is_section("agent.connect"));
        assert!(!is_section("agen") && !is_section("") && !is_section("agent.connect.x"));
    }

    #[test]
    fn hints_name_what_was_meant() {
        for (wrong, right) in [
            ("agent.hots", "agent.host"),
            ("agent.group-id", "agent.group_id"),
            ("agent.Port", "agent.port"),
            ("agnet", "agent"),
            ("agent.interval_max", "agent.connect.interval_max"),
            ("level", "log.level"),
            ("shutdwon", "shutdown"),
        ] {
            assert_eq!(hint(wrong), Some(right), "{wrong}");
        }
        assert_eq!(hint("agent.colour"), None);
        assert_eq!(hint("xyz"), None);
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c.]{0,8}", b in "[a-c.]{0,8}", c in "[a-c.]{0,8}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
