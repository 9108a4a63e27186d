//! The configured limit on the size of the files of every process.

use nix::sys::resource::{Resource as Limited, getrlimit};

use super::child_attribute::{AttributeValue, ChildAttribute};
use crate::engine::failure::{Stage, StartFailure};
use crate::spec::{Attributes, Bound, LimitPair, Resource};

/// The configured limit, unless the spec or this program has a lower one.
///
/// # Errors
/// The spec asks for a higher limit.
pub(super) fn attribute(
    attributes: &Attributes,
    most: Option<u64>,
) -> Result<Option<ChildAttribute>, StartFailure> {
    let Some(most) = most else { return Ok(None) };
    let stage = Stage::Limits(Resource::Fsize);
    if let Some(LimitPair { soft, hard }) = attributes.limits.get(&Resource::Fsize) {
        let requested = [soft, hard].map(|bound| match bound {
            Bound::Value(value) => *value,
            Bound::Unlimited => u64::MAX,
        });
        let above = requested.iter().any(|bound| *bound > most);
        let detail = format!(
            "above run.max_file_size, {most} bytes: ask for no more, or raise that setting"
        );
        let failure = StartFailure { stage, errno: 0, path: None, detail: Some(detail) };
        return if above { Err(failure) } else { Ok(None) };
    }
    let ours = getrlimit(Limited::RLIMIT_FSIZE);
    let most = ours.map_or(most, |(_, hard)| most.min(hard));
    let what = AttributeValue::Limit(
        libc::RLIMIT_FSIZE,
        libc::rlimit64 { rlim_cur: most, rlim_max: most },
    );
    Ok(Some(ChildAttribute { stage, path: None, what }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_file_size_holds_unless_the_spec_sets_a_lower_one() {
        let fsize = |limits: &str, most: u64| {
            let text = format!(r#"{{"specs": {{"a": {{"argv": ["x"], "rlimits": {limits}}}}}}}"#);
            let validated = crate::spec::from_json(text.as_bytes()).unwrap();
            let planned = attribute(&validated.procs[0].attributes, Some(most));
            planned.map(|planned| {
                planned.map(|ChildAttribute { what, .. }| match what {
                    AttributeValue::Limit(libc::RLIMIT_FSIZE, limit) => {
                        (limit.rlim_cur, limit.rlim_max)
                    }
                    _ => panic!("another attribute"),
                })
            })
        };
        assert_eq!(fsize("{}", 1000).unwrap(), Some((1000, 1000)));
        assert_eq!(fsize(r#"{"fsize": 10}"#, 1000).unwrap(), None);
        assert_eq!(fsize(r#"{"fsize": [10, 1000]}"#, 1000).unwrap(), None);
        for above in ["1001", "[10, 1001]", r#""unlimited""#, r#"[10, "unlimited"]"#] {
            let refused = fsize(&format!(r#"{{"fsize": {above}}}"#), 1000).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "failed to set limits: fsize: above run.max_file_size, 1000 bytes: ask for no more, or raise that setting"
            );
        }
    }
}
