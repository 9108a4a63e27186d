//! `procstar doctor --security`: checks whether other users of this host, or other hosts, have more
//! access than they should.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::check::{Check, Level};
use super::places;
use crate::config::{
    AgentSettings, Env, FileState, HttpSettings, Loaded, Origin, TOKEN_BITS, token_bits,
};
use crate::keeper::registry;
use crate::trust::{self, Need, Untrusted};
use crate::users::user_name;

/// All checks. `loaded` is the result of loading the settings.
pub(super) fn checks(loaded: &Result<Loaded, String>, env: &Env) -> Vec<Check> {
    let mut checks = Vec::new();
    match loaded {
        Err(error) => checks.push(Check::with(
            "configuration",
            Level::Fail,
            error.trim_end(),
            "correct it and run this command again: the settings were not checked",
        )),
        Ok(loaded) => {
            checks.extend(
                files(loaded).into_iter().map(|(name, path, need)| file(name, &path, need)),
            );
            checks.extend(directories(loaded, env));
            checks.extend(tokens(loaded));
            checks.extend(listeners(&loaded.settings.http));
            checks.push(restriction(loaded));
        }
    }
    let program = std::env::current_exe();
    checks.extend(program.map(|path| file("program", &path, Need::Integrity)));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    checks.push(capabilities(&status, nix::unistd::geteuid().as_raw()));
    checks.extend(kernel(Path::new("/proc/sys")));
    checks
}

/// The configuration files and the files named in settings, with the protection that they need.
fn files(loaded: &Loaded) -> Vec<(&'static str, PathBuf, Need)> {
    let mut files = Vec::new();
    let tokens = ["http.token", "agent.token"];
    let holds_token = |path: &Path| {
        tokens.iter().any(
            |token| matches!(loaded.origins.get(token), Some(Origin::File { path: of, .. }) if of == path),
        )
    };
    for (path, _) in loaded.files.iter().filter(|(_, state)| *state == FileState::Read) {
        let need = if holds_token(path) { Need::Secrecy } else { Need::Integrity };
        files.push(("configuration", path.clone(), need));
    }
    for token in tokens {
        files.extend(loaded.secret_file(token).map(|path| (token, path.to_owned(), Need::Secrecy)));
    }
    let (http, agent) = (&loaded.settings.http, &loaded.settings.agent);
    let named = [
        ("http.tls_key", &http.tls_key, Need::Secrecy),
        ("http.tls_cert", &http.tls_cert, Need::Integrity),
        ("http.client_ca", &http.client_ca, Need::Integrity),
        ("agent.cert", &agent.cert, Need::Integrity),
        ("agent.ca", &agent.ca, Need::Integrity),
    ];
    files.extend(
        named.into_iter().filter_map(|(name, path, need)| Some((name, path.clone()?, need))),
    );
    files
}

/// Checks a file or a directory.
fn file(name: &'static str, path: &Path, need: Need) -> Check {
    match trust::check(path, need) {
        Ok(()) => {
            let described = path.metadata().map_or(String::new(), |meta| {
                format!(", owner {}, mode {:04o}", user_name(meta.uid()), meta.mode() & 0o7777)
            });
            Check::ok(name, format!("{}{described}", path.display()))
        }
        Err(Untrusted::Exposed(exposure)) => {
            let found = format!("{}: {}", path.display(), exposure.found());
            Check::with(name, Level::Fail, found, exposure.remedy())
        }
        Err(Untrusted::Unknown(error)) => {
            let found = format!("{}: {error}", path.display());
            Check::with(
                name,
                Level::Warn,
                found,
                "grant this user read permission, or use another file",
            )
        }
    }
}

/// Checks the directories of an instance.
fn directories(loaded: &Loaded, env: &Env) -> Vec<Check> {
    let settings = &loaded.settings;
    let mut checks = vec![file("capture.dir", &settings.capture.directory(env), Need::Integrity)];
    let parent = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.parent().map_or_else(|| path.clone(), Path::to_owned)
    };
    if let Some(dir) = &settings.run.state_dir {
        checks.push(places::state_dir(dir, nix::unistd::geteuid().as_raw()));
        checks.push(file("run.state_dir", &parent(dir), Need::Integrity));
    }
    if let Some(socket) = &settings.http.socket {
        checks.push(file("http.socket", &parent(socket), Need::Integrity));
    }
    const NAME: &str = "runtime directory";
    let taken = registry::taken(&registry::candidates_of(settings, env));
    if taken.is_empty() {
        checks.push(Check::ok(NAME, "no other user has created its directories"));
    }
    checks.extend(taken.into_iter().map(|(path, found)| {
        let found = format!("{} should be a directory of this user, {found}", path.display());
        Check::with(NAME, Level::Warn, found, "remove it as root, or set run.runtime_dir")
    }));
    checks
}

/// Checks the strength of tokens. Loading the configuration has already rejected a weak
/// `http.token`.
fn tokens(loaded: &Loaded) -> Vec<Check> {
    let AgentSettings { enabled, token: agent, .. } = &loaded.settings.agent;
    let http = loaded.settings.http.token.as_ref();
    let agent = Some(agent).filter(|token| *enabled || !token.is_empty());
    let strength = |name: &'static str, text: &str| match token_bits(text) {
        bits if bits >= TOKEN_BITS => Check::ok(name, format!("set, with at most {bits} bits")),
        bits => Check::with(
            name,
            Level::Warn,
            format!("at most {bits} bits: it can be guessed"),
            "create one with `openssl rand -base64 24`, and set it in the scheduler too",
        ),
    };
    let named = [("strength of http.token", http), ("strength of agent.token", agent)];
    named.into_iter().filter_map(|(name, token)| Some(strength(name, token?.expose()))).collect()
}

/// Checks the access to the listeners of HTTP.
fn listeners(http: &HttpSettings) -> Vec<Check> {
    const NAME: &str = "listener";
    if !http.enabled {
        return vec![Check::ok(
            NAME,
            "no TCP port; only this user and root can use the Unix socket",
        )];
    }
    let address = format!("{} port {}", http.bind, http.port);
    let is_encrypted = http.tls_cert.is_some() && http.tls_key.is_some();
    let is_guarded = http.token.is_some() || http.client_ca.is_some();
    if is_loopback(http.bind) {
        let who = if http.require_token {
            "loopback, only with the token"
        } else {
            "loopback, only for processes of this user and root"
        };
        return vec![Check::ok(NAME, format!("{address}: {who}"))];
    }
    vec![match (is_encrypted, is_guarded) {
        (true, true) => {
            Check::ok(NAME, format!("{address}: TLS, only with a token or client certificate"))
        }
        (false, _) => Check::with(
            NAME,
            Level::Fail,
            format!("{address} can be reached from other machines, without TLS"),
            "set http.tls_cert and http.tls_key, or http.bind = \"127.0.0.1\"",
        ),
        (true, false) => Check::with(
            NAME,
            Level::Fail,
            format!("{address} can be reached from other machines, without a token"),
            "set http.token or http.client_ca, or http.bind = \"127.0.0.1\"",
        ),
    }]
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Checks whether the executables are restricted.
fn restriction(loaded: &Loaded) -> Check {
    const NAME: &str = "run.allowed_executables";
    match loaded.settings.run.allowed_executables.len() {
        0 => Check::note(NAME, "not set: users who can start processes can start any program"),
        n => Check::ok(NAME, format!("set, with {n} entries")),
    }
}

/// Capabilities with which a user can become root or read all files, with their numbers.
const POWERFUL: [(u32, &str); 12] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (3, "CAP_FOWNER"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (8, "CAP_SETPCAP"),
    (16, "CAP_SYS_MODULE"),
    (17, "CAP_SYS_RAWIO"),
    (18, "CAP_SYS_CHROOT"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
];

/// Checks the capabilities of this program. `status` is the text of `/proc/self/status`.
fn capabilities(status: &str, uid: u32) -> Check {
    const NAME: &str = "capabilities";
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let Some(permitted) = set("CapPrm:") else {
        return Check::note(NAME, "/proc/self/status does not show them");
    };
    let all = permitted | set("CapAmb:").unwrap_or(0) | set("CapInh:").unwrap_or(0);
    if uid == 0 {
        return Check::note(
            NAME,
            "runs as root: processes whose spec has no `user` also run as root",
        );
    }
    let held: Vec<&str> =
        POWERFUL.iter().filter(|(bit, _)| all >> bit & 1 == 1).map(|(_, name)| *name).collect();
    if held.is_empty() {
        return Check::ok(NAME, "none with which another user's rights can be gained");
    }
    Check::with(
        NAME,
        Level::Warn,
        format!("{}: processes of this user can use them through procstar", held.join(", ")),
        "set `user` to another user in every spec, or start procstar without these capabilities",
    )
}

/// A setting of the kernel that limits the access of users to each other.
struct Sysctl {
    name: &'static str,
    file: &'static str,
    /// The lowest safe value.
    least: u32,
    without: &'static str,
}

const SYSCTLS: [Sysctl; 5] = [
    Sysctl {
        name: "kernel.yama.ptrace_scope",
        file: "kernel/yama/ptrace_scope",
        least: 1,
        without: "processes of a user can read each other's memory",
    },
    Sysctl {
        name: "fs.protected_symlinks",
        file: "fs/protected_symlinks",
        least: 1,
        without: "programs follow links that other users create in /tmp",
    },
    Sysctl {
        name: "fs.protected_hardlinks",
        file: "fs/protected_hardlinks",
        least: 1,
        without: "users can create hard links to files that they cannot write",
    },
    Sysctl {
        name: "fs.protected_fifos",
        file: "fs/protected_fifos",
        least: 1,
        without: "programs open FIFOs that other users create in /tmp",
    },
    Sysctl {
        name: "fs.protected_regular",
        file: "fs/protected_regular",
        least: 1,
        without: "programs write to files that other users create in /tmp",
    },
];

/// Checks the settings of the kernel in the files below `sys`.
fn kernel(sys: &Path) -> Vec<Check> {
    let check = |sysctl: &Sysctl| {
        let Sysctl { name, file, least, without } = sysctl;
        let text = std::fs::read_to_string(sys.join(file)).unwrap_or_default();
        let remedy = format!("run `sysctl -w {name}={least}`, and set it in /etc/sysctl.d");
        match text.trim().parse::<u32>() {
            Ok(value) if value >= *least => Check::ok(name, value.to_string()),
            Ok(value) => Check::with(name, Level::Warn, format!("{value}: {without}"), remedy),
            Err(_) => Check::note(name, format!("missing in this kernel: {without}")),
        }
    };
    SYSCTLS.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_kernel_settings_are_warnings() {
        let dir = tempfile::tempdir().unwrap();
        for Sysctl { file, .. } in SYSCTLS {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "0\n").unwrap();
        }
        assert!(kernel(dir.path()).iter().all(|check| check.level == Level::Warn));
        std::fs::write(dir.path().join("fs/protected_fifos"), "2\n").unwrap();
        std::fs::remove_file(dir.path().join("kernel/yama/ptrace_scope")).unwrap();
        let levels: Vec<Level> = kernel(dir.path()).iter().map(|check| check.level).collect();
        assert_eq!(levels, [Level::Note, Level::Warn, Level::Warn, Level::Ok, Level::Warn]);
        let remedy = kernel(dir.path())[1].remedy.clone().unwrap();
        assert!(remedy.starts_with("run `sysctl -w fs.protected_symlinks=1`"), "{remedy}");
    }

    #[test]
    fn powerful_capabilities_of_a_user_are_a_warning() {
        let none = "CapInh:\t00\nCapPrm:\t00\nCapAmb:\t00\n";
        let ambient = "CapInh:\tc0\nCapPrm:\tc0\nCapAmb:\tc0\n";
        for (status, uid, level, found) in [
            (none, 7, Level::Ok, "none with which"),
            (ambient, 7, Level::Warn, "CAP_SETGID, CAP_SETUID: "),
            ("CapInh:\t00\nCapPrm:\t0400\n", 7, Level::Ok, "none with which"),
            (ambient, 0, Level::Note, "runs as root"),
            ("", 7, Level::Note, "/proc/self/status does not"),
        ] {
            let check = capabilities(status, uid);
            assert_eq!(check.level, level, "{check:?}");
            assert!(check.found.starts_with(found), "{check:?}");
        }
    }

    #[test]
    fn listeners_on_the_network_need_tls_and_a_token() {
        let key = || Some(PathBuf::from("/k"));
        let open: IpAddr = "0.0.0.0".parse().unwrap();
        let base = HttpSettings { enabled: true, ..HttpSettings::default() };
        let secret = || Some(crate::config::Secret::new("t"));
        for (settings, level) in [
            (HttpSettings::default(), Level::Ok),
            (base.clone(), Level::Ok),
            (HttpSettings { bind: open, token: secret(), ..base.clone() }, Level::Fail),
            (
                HttpSettings { bind: open, tls_cert: key(), tls_key: key(), ..base.clone() },
                Level::Fail,
            ),
            (
                HttpSettings {
                    bind: open,
                    tls_cert: key(),
                    tls_key: key(),
                    token: secret(),
                    ..base
                },
                Level::Ok,
            ),
        ] {
            let checks = listeners(&settings);
            assert_eq!((checks.len(), checks[0].level), (1, level), "{checks:?}");
            assert_eq!(checks[0].remedy.is_some(), level != Level::Ok);
        }
    }
}
