//! The sandbox of a process: the keys of a spec, and the sandbox that they amount to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::capability::Capability;

/// Restrictions of a process; by default none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct SandboxSpec {
    /// A named set of the other keys. A key that is also given replaces the profile's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<SandboxProfile>,
    /// Whether no program that the process executes can gain privileges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privs: Option<bool>,
    /// All capabilities that the process has or can gain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// Whether the process has an empty `/tmp` and `/var/tmp` of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_tmp: Option<bool>,
    /// Files and directories, with all below, that the process cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_paths: Option<Vec<String>>,
    /// Files and directories below `read_only_paths` that the process can change nevertheless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable_paths: Option<Vec<String>>,
    /// Files and directories, with all below, that the process cannot see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_paths: Option<Vec<String>>,
    /// The network that the process can reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkAccess>,
}

/// A named sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SandboxProfile {
    /// `no_new_privs` and `private_tmp`.
    Basic,
    /// As `basic`; no capabilities, `/` read-only, no network.
    Strict,
}

/// The network that a process can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkAccess {
    /// That of the host.
    #[default]
    Host,
    /// Only a loopback interface of its own.
    Loopback,
    /// None.
    None,
}

/// The sandbox of a process, with the keys of its profile.
///
/// The worker sends it to the keeper, which writes it to the journal. So new fields are only
/// appended, with a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(!default)]
pub struct Sandbox {
    /// Whether no program that the process executes can gain privileges.
    pub no_new_privs: bool,
    /// All capabilities that the process has or can gain, sorted; `None` for no change.
    pub capabilities: Option<Vec<Capability>>,
    /// Whether `/tmp` and `/var/tmp` are empty directories of its own.
    pub private_tmp: bool,
    /// Read-only paths.
    pub read_only_paths: Vec<String>,
    /// Writable paths below read-only ones.
    pub writable_paths: Vec<String>,
    /// Hidden paths.
    pub hidden_paths: Vec<String>,
    /// The network.
    pub network: NetworkAccess,
}

impl Sandbox {
    /// The directories that `private_tmp` replaces.
    pub const TMP: [&str; 2] = ["/tmp", "/var/tmp"];
    /// The directories that a read-only `/` leaves as they are.
    pub const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];
    /// Maximum number of paths in the lists of a sandbox together.
    pub const MAX_PATHS: usize = 256;

    /// Whether the process is not restricted at all.
    pub fn is_none(&self) -> bool {
        *self == Sandbox::default()
    }

    /// Whether the process sees other files than procstar, or other permissions.
    pub fn has_mounts(&self) -> bool {
        let lists = [&self.read_only_paths, &self.writable_paths, &self.hidden_paths];
        self.private_tmp || lists.iter().any(|list| !list.is_empty())
    }

    /// The values of a profile.
    pub fn of(profile: SandboxProfile) -> Sandbox {
        let basic = Sandbox { no_new_privs: true, private_tmp: true, ..Sandbox::default() };
        match profile {
            SandboxProfile::Basic => basic,
            SandboxProfile::Strict => Sandbox {
                capabilities: Some(Vec::new()),
                read_only_paths: vec!["/".to_owned()],
                network: NetworkAccess::None,
                ..basic
            },
        }
    }
}

impl SandboxSpec {
    /// The sandbox that the keys amount to.
    pub fn resolve(&self) -> Sandbox {
        let of_profile = self.profile.map(Sandbox::of).unwrap_or_default();
        let paths = |given: &Option<Vec<String>>, otherwise| match given {
            None => otherwise,
            Some(paths) => {
                let mut paths: Vec<String> = paths.iter().map(|path| normal(path)).collect();
                paths.sort_unstable();
                paths.dedup();
                paths
            }
        };
        let sorted = |capabilities: &Vec<Capability>| {
            let mut capabilities = capabilities.clone();
            capabilities.sort_unstable();
            capabilities.dedup();
            capabilities
        };
        Sandbox {
            no_new_privs: self.no_new_privs.unwrap_or(of_profile.no_new_privs),
            capabilities: self.capabilities.as_ref().map(sorted).or(of_profile.capabilities),
            private_tmp: self.private_tmp.unwrap_or(of_profile.private_tmp),
            read_only_paths: paths(&self.read_only_paths, of_profile.read_only_paths),
            writable_paths: paths(&self.writable_paths, of_profile.writable_paths),
            hidden_paths: paths(&self.hidden_paths, of_profile.hidden_paths),
            network: self.network.unwrap_or(of_profile.network),
        }
    }

    /// The same sandbox in the one form of all specs that mean it.
    pub(super) fn in_one_form(&self) -> SandboxSpec {
        let Sandbox {
            no_new_privs,
            capabilities,
            private_tmp,
            read_only_paths,
            writable_paths,
            hidden_paths,
            network,
        } = self.resolve();
        let list = |paths: Vec<String>| (!paths.is_empty()).then_some(paths);
        SandboxSpec {
            profile: None,
            no_new_privs: no_new_privs.then_some(true),
            capabilities,
            private_tmp: private_tmp.then_some(true),
            read_only_paths: list(read_only_paths),
            writable_paths: list(writable_paths),
            hidden_paths: list(hidden_paths),
            network: Some(network).filter(|network| *network != NetworkAccess::Host),
        }
    }
}

/// A path without empty components and without a slash at its end.
pub(super) fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty());
    let joined = parts.collect::<Vec<_>>().join("/");
    if path.starts_with('/') { format!("/{joined}") } else { joined }
}

/// Whether the normal path `path` is `parent` or below it.
pub(super) fn is_within(path: &str, parent: &str) -> bool {
    parent == "/"
        || path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

super::object::only_objects!(SandboxSpec);
