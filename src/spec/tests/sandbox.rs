//! The sandbox of a spec.

use proptest::prelude::*;

use crate::spec::*;

/// Sandboxes, valid or not.
pub(super) fn sandbox() -> impl Strategy<Value = SandboxSpec> {
    let paths = || prop::option::of(prop::collection::vec("(/[a-c]{0,2}){0,3}", 0..3));
    let capability = (0u64..64).prop_map(|number| Capability::from_number(number).unwrap());
    let profile = prop::sample::select(vec![SandboxProfile::Basic, SandboxProfile::Strict]);
    let network = prop::sample::select(vec![
        NetworkAccess::Host,
        NetworkAccess::Loopback,
        NetworkAccess::None,
    ]);
    let flag = || prop::option::of(any::<bool>());
    (
        (prop::option::of(profile), flag(), flag()),
        prop::option::of(prop::collection::vec(capability, 0..3)),
        (paths(), paths(), paths()),
        prop::option::of(network),
    )
        .prop_map(|(keys, capabilities, paths, network)| SandboxSpec {
            profile: keys.0,
            no_new_privs: keys.1,
            private_tmp: keys.2,
            capabilities,
            read_only_paths: paths.0,
            writable_paths: paths.1,
            hidden_paths: paths.2,
            network,
        })
}

fn sandbox_of(sandbox: serde_json::Value) -> Sandbox {
    let text = serde_json::json!({"specs": {"a": {"argv": ["x"], "sandbox": sandbox}}}).to_string();
    from_json(text.as_bytes()).unwrap().procs["a"].attributes.sandbox.clone()
}

#[test]
fn a_key_of_a_sandbox_replaces_the_value_of_its_profile() {
    use serde_json::json;
    assert!(sandbox_of(json!({})).is_none());
    let basic = Sandbox { no_new_privs: true, private_tmp: true, ..Sandbox::default() };
    assert_eq!(sandbox_of(json!({"profile": "basic"})), basic);
    let strict = Sandbox {
        capabilities: Some(vec![]),
        read_only_paths: vec!["/".into()],
        network: NetworkAccess::None,
        ..basic.clone()
    };
    assert_eq!(sandbox_of(json!({"profile": "strict"})), strict);
    let mixed = json!({"profile": "strict", "network": "host", "private_tmp": false, "capabilities": ["net_raw", 0],
        "writable_paths": ["/a//b/"], "no_new_privs": null});
    let capabilities = [0, 13].map(|number| Capability::from_number(number).unwrap());
    assert_eq!(
        sandbox_of(mixed),
        Sandbox {
            network: NetworkAccess::Host,
            private_tmp: false,
            capabilities: Some(capabilities.into()),
            writable_paths: vec!["/a/b".into()],
            ..strict
        }
    );
}

#[test]
fn specs_with_the_same_sandbox_are_the_same() {
    use serde_json::json;
    let digest = |sandbox: serde_json::Value| {
        let text = json!({"specs": {"a": {"argv": ["x"], "sandbox": sandbox}}}).to_string();
        from_json(text.as_bytes()).unwrap().procs["a"].digest
    };
    let basic = digest(json!({"profile": "basic"}));
    assert_eq!(
        basic,
        digest(json!({"no_new_privs": true, "private_tmp": true, "network": "host"}))
    );
    assert_ne!(basic, digest(json!({"no_new_privs": true})));
    assert_eq!(
        digest(json!({"capabilities": ["CAP_KILL", "chown"], "hidden_paths": ["/b", "/a"]})),
        digest(json!({"capabilities": [0, 5, 0], "hidden_paths": ["/a/", "/b"]}))
    );
    assert_ne!(digest(json!({"capabilities": []})), digest(json!({})));
}
