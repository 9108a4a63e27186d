//! The options that describe the sandbox of a process.

use std::str::FromStr;

use clap::{Args, ValueHint};

use crate::spec::{Capability, NetworkAccess, SandboxProfile, SandboxSpec};

/// The sandbox of one process.
#[derive(Args, Clone, Debug, Default)]
pub struct SandboxOptions {
    /// Restrict the process by a profile, `basic` or `strict`; the options below replace its values
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    #[arg(help_heading = "Sandbox")]
    sandbox: Option<SandboxProfile>,

    /// Let no program that the process executes gain privileges, as sudo does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(help_heading = "Sandbox")]
    #[arg(default_missing_value = "true")]
    no_new_privs: Option<bool>,

    /// Have only this capability, or `none`; may be repeated
    #[arg(long, value_name = "NAME")]
    #[arg(help_heading = "Sandbox")]
    capability: Vec<Capabilities>,

    /// Have an empty /tmp and /var/tmp
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(help_heading = "Sandbox")]
    #[arg(default_missing_value = "true")]
    private_tmp: Option<bool>,

    /// Make this path and all below read-only; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    #[arg(help_heading = "Sandbox")]
    read_only: Vec<String>,

    /// Keep this path below a read-only one writable; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    #[arg(help_heading = "Sandbox")]
    writable: Vec<String>,

    /// Hide this path and all below; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    #[arg(help_heading = "Sandbox")]
    hidden: Vec<String>,

    /// Network that the process can reach: `host`, `loopback` or `none`
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    #[arg(help_heading = "Sandbox")]
    network: Option<NetworkAccess>,
}

/// A capability, or none for the empty list.
#[derive(Clone, Copy, Debug)]
struct Capabilities(Option<Capability>);

impl FromStr for Capabilities {
    type Err = String;

    fn from_str(text: &str) -> Result<Capabilities, String> {
        if text == "none" {
            return Ok(Capabilities(None));
        }
        let number = text.parse().ok().and_then(Capability::from_number);
        number.or_else(|| Capability::from_name(text)).map(|found| Capabilities(Some(found))).ok_or_else(
            || {
                format!(
                    "unknown capability {text:?}: expected `none`, a name such as CAP_NET_RAW, or a number from 0 to {}",
                    Capability::MAX
                )
            },
        )
    }
}

fn profile(text: &str) -> Result<SandboxProfile, String> {
    match text {
        "basic" => Ok(SandboxProfile::Basic),
        "strict" => Ok(SandboxProfile::Strict),
        _ => Err(format!("unknown profile {text:?}: expected basic or strict")),
    }
}

fn network(text: &str) -> Result<NetworkAccess, String> {
    match text {
        "host" => Ok(NetworkAccess::Host),
        "loopback" => Ok(NetworkAccess::Loopback),
        "none" => Ok(NetworkAccess::None),
        _ => Err(format!("unknown network {text:?}: expected host, loopback or none")),
    }
}

impl SandboxOptions {
    /// The sandbox of the spec.
    pub(super) fn spec(self) -> SandboxSpec {
        let given = |paths: Vec<String>| (!paths.is_empty()).then_some(paths);
        let capabilities = (!self.capability.is_empty())
            .then(|| self.capability.into_iter().filter_map(|one| one.0).collect());
        SandboxSpec {
            profile: self.sandbox,
            no_new_privs: self.no_new_privs,
            capabilities,
            private_tmp: self.private_tmp,
            read_only_paths: given(self.read_only),
            writable_paths: given(self.writable),
            hidden_paths: given(self.hidden),
            network: self.network,
        }
    }
}

/// The option for a key of the sandbox.
pub(super) fn option_of(key: &str) -> &'static str {
    match key {
        "no_new_privs" => "--no-new-privs",
        "capabilities" => "--capability",
        "private_tmp" => "--private-tmp",
        "read_only_paths" => "--read-only",
        "writable_paths" => "--writable",
        "hidden_paths" => "--hidden",
        "network" => "--network",
        _ => "--sandbox",
    }
}
