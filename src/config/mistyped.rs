//! Environment variables that look like settings but are not: most likely misspelled.

use std::ffi::OsStr;

use crate::config::environment::NEVER_INHERITED;
use crate::config::keys::{self, ALIASES, KEYS, Key};
use crate::config::process_env::Env;
use crate::text::distance;

const PREFIX: &str = "PROCSTAR_";

/// Our variables that are not settings.
const OTHERS: &[&str] = &["PROCSTAR_URL"];

/// Variables by which the processes of one program find each other. Only this program sets them,
/// and none is a misspelled name. A test of the keeper compares the list with the names in use.
pub(crate) const INTERNAL_VARIABLES: &[&str] = &[
    "PROCSTAR_FILTER",
    "PROCSTAR_KEEPER_AGAIN",
    "PROCSTAR_KEEPER_CHECK",
    "PROCSTAR_KEEPER_FD",
    "PROCSTAR_KEEPER_FILES",
    "PROCSTAR_KEEPER_LISTENERS",
    "PROCSTAR_KEEPER_STATE",
    "PROCSTAR_KEEPER_SUCCESSION",
];

/// A warning for each variable that most likely means one of ours. Variables without such
/// similarity may belong to other programs.
pub fn mistyped(env: &Env) -> Vec<String> {
    let known = known();
    let names = env.keys().filter_map(|name| name.to_str());
    names
        .filter(|name| {
            name.to_uppercase().starts_with(PREFIX) && !INTERNAL_VARIABLES.contains(name)
        })
        .filter(|name| !known.iter().any(|known| known == name) && !NEVER_INHERITED.contains(name))
        .filter_map(|name| Some((name, nearest(name, &known)?)))
        // If the setting's own variable is set too, the other name may belong to another program.
        .filter(|(_, meant)| !env.contains_key(OsStr::new(meant)))
        .map(|(name, meant)| {
            format!("environment variable {name} has no effect; did you mean {meant}?")
        })
        .collect()
}

fn known() -> Vec<String> {
    let files = KEYS.iter().filter(|key| key.kind.is_secret());
    let files = files.map(|key| format!("{}_FILE", key.variable));
    let aliases = ALIASES.iter().map(|alias| alias.variable);
    let all = KEYS.iter().map(|key| key.variable).chain(aliases).chain(OTHERS.iter().copied());
    all.map(str::to_owned).chain(files).collect()
}

/// The name that was most likely meant: the setting's, if the name is made of a flag or a setting;
/// the nearest by spelling; or one of another section with the same end.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let normal = name.to_uppercase().replace('-', "_");
    let of_flag = |flag: &str| {
        format!("{PREFIX}{}", flag.trim_start_matches('-').to_uppercase().replace('-', "_"))
    };
    let made_of = |key: &&Key| {
        key.flag.is_some_and(|flag| of_flag(flag) == normal)
            || of_flag(&key.path.replace('.', "_")) == normal
    };
    if let Some(key) = KEYS.iter().find(made_of) {
        return Some(key.variable.to_owned());
    }
    if let Some(key) = keys::of_synonym(&normal) {
        return Some(key.variable.to_owned());
    }
    let limit = (normal.len() / 6).clamp(2, 4);
    let near = known
        .iter()
        .map(|known| (distance(&normal, known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= limit);
    let rest = normal.strip_prefix(PREFIX).filter(|rest| rest.len() > 3);
    let moved = || {
        let end = format!("_{}", rest?);
        known.iter().find(|known| known.ends_with(&end))
    };
    near.map(|(_, known)| known).or_else(moved).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(names: &[&str]) -> Vec<String> {
        mistyped(&names.iter().map(|name| (name.into(), "x".into())).collect())
    }

    #[test]
    fn each_warning_names_the_intended_variable() {
        for (wrong, right) in [
            ("PROCSTAR_AGENT_HOTS", "PROCSTAR_AGENT_HOST"),
            ("PROCSTAR_agent_host", "PROCSTAR_AGENT_HOST"),
            ("PROCSTAR_SERVE_PORT", "PROCSTAR_HTTP_PORT"),
            ("PROCSTAR_HTTP_SERVE", "PROCSTAR_HTTP_ENABLED"),
            ("PROCSTAR_HTTP_BODY_LIMIT", "PROCSTAR_HTTP_MAX_BODY"),
            ("PROCSTAR_DRAIN_GRACE", "PROCSTAR_CAPTURE_DRAIN_TIMEOUT"),
            ("PROCSTAR_SERVE", "PROCSTAR_HTTP_ENABLED"),
            ("PROCSTAR_STATE_DIR", "PROCSTAR_RUN_STATE_DIR"),
            ("PROCSTAR_DRAIN_TIMEOUT", "PROCSTAR_CAPTURE_DRAIN_TIMEOUT"),
            ("PROCSTAR_HTTP_TOKENFILE", "PROCSTAR_HTTP_TOKEN_FILE"),
            ("PROCSTAR_AGENT_GROUP_ID", "PROCSTAR_GROUP_ID"),
            ("PROCSTAR_ULR", "PROCSTAR_URL"),
        ] {
            let warning =
                format!("environment variable {wrong} has no effect; did you mean {right}?");
            assert_eq!(warnings(&[wrong]), [warning]);
        }
    }

    #[test]
    fn no_warning_about_known_and_foreign_variables() {
        let known = known();
        let all = known.iter().map(String::as_str).chain(INTERNAL_VARIABLES.iter().copied());
        let all: Vec<&str> = all.chain(NEVER_INHERITED.iter().copied()).collect();
        assert_eq!(warnings(&all), [""; 0]);
        assert_eq!(
            warnings(&["PROCSTAR_FAVOURITE_COLOUR", "PROCSTAR_JOB", "PROCSTAR", "HOME"]),
            [""; 0]
        );
        assert_eq!(warnings(&["PROCSTAR_HTTP_PROT", "PROCSTAR_HTTP_PORT"]), [""; 0]);
    }
}
