//! Configuration, tokens and keys that another user can change or read. The tests that give files to other users need root: without it
//! they do nothing.

use std::fs::{Permissions, create_dir_all, set_permissions, write};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::private::write_secret;

/// Another local user, and one whose agent it is.
const MALLORY: u32 = 65_001;
const ALICE: u32 = 65_002;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn mode(path: &Path, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A directory that every user can enter.
fn open_dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    mode(dir.path(), 0o755);
    dir
}

/// The program in an environment of `env` only.
fn procstar(args: &[&str], env: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
    command.args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    command
}

fn refusal(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    said
}

/// A home directory with a configuration file, all owned by `owner`.
fn home_of(owner: u32) -> (TempDir, PathBuf) {
    let home = open_dir();
    let dir = home.path().join(".config/procstar");
    create_dir_all(&dir).unwrap();
    let file = dir.join("procstar.toml");
    write(&file, "[log]\nlevel = \"trace\"\n").unwrap();
    for path in [home.path(), &home.path().join(".config"), &dir, &file] {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
    (home, file)
}

/// Needs root. `sudo -E` and `su` keep HOME: root must not obey the configuration of mallory.
#[test]
fn the_configuration_in_another_users_home_is_refused() {
    if !is_root() {
        return;
    }
    let (home, file) = home_of(MALLORY);
    for uid in [0, ALICE] {
        for env in
            [("HOME", home.path().to_owned()), ("XDG_CONFIG_HOME", home.path().join(".config"))]
        {
            let mut command = procstar(&["config", "show"], &[(env.0, &env.1)]);
            let said = refusal(&command.uid(uid).gid(uid).output().unwrap());
            let named = format!("refusing configuration file {}: ", file.display());
            assert!(said.contains(&named), "{said}");
            assert!(said.contains("65001") && said.contains("(mode 0"), "{said}");
            assert!(said.contains("set HOME and XDG_CONFIG_HOME"), "{said}");
        }
    }
    let own =
        procstar(&["config", "show"], &[("HOME", home.path())]).uid(MALLORY).output().unwrap();
    assert!(
        own.status.success() && String::from_utf8_lossy(&own.stdout).contains("trace"),
        "{own:?}"
    );
    // Mallory's link to root's file is mallory's choice.
    let ours = open_dir();
    let honest = ours.path().join("procstar.toml");
    write(&honest, "[log]\nlevel = \"debug\"\n").unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&honest, &file).unwrap();
    lchown(&file, Some(MALLORY), None).unwrap();
    refusal(&procstar(&["config", "show"], &[("HOME", home.path())]).output().unwrap());
    // Without a configuration file, the home of mallory is no error.
    std::fs::remove_file(&file).unwrap();
    let none = procstar(&["config", "show"], &[("HOME", home.path())]).output().unwrap();
    assert!(none.status.success(), "{none:?}");
}

#[test]
fn a_configuration_that_others_can_write_is_refused_wherever_it_is_named() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("procstar");
    let file = place.join("procstar.toml");
    create_dir_all(&place).unwrap();
    write(&file, "[log]\nlevel = \"trace\"\n").unwrap();
    let explicit = ["--config", file.to_str().unwrap(), "config", "show"];
    for (of_file, of_place, at) in [
        (0o666, 0o755, Some(&file)),
        (0o602, 0o755, Some(&file)),
        (0o644, 0o777, Some(&place)),
        (0o644, 0o1777, None),
        (0o644, 0o755, None),
    ] {
        mode(&file, of_file);
        mode(&place, of_place);
        for output in [
            procstar(&explicit, &[]).output().unwrap(),
            procstar(&["config", "show"], &[("XDG_CONFIG_HOME", dir.path())]).output().unwrap(),
        ] {
            let Some(at) = at else {
                assert!(output.status.success(), "{output:?}");
                continue;
            };
            let said = refusal(&output);
            assert!(said.contains("every user can write"), "{said}");
            assert!(said.contains(&format!("run `chmod go-w {}`", at.display())), "{said}");
        }
    }
}

#[test]
fn a_token_that_others_can_read_or_write_is_refused() {
    let dir = TempDir::new().unwrap();
    let (token, config) = (dir.path().join("token"), dir.path().join("procstar.toml"));
    write_secret(&token, "correct horse battery staple 31337\n");
    write_secret(&config, "[http]\ntoken = \"correct horse battery staple 31337\"\n");
    let credentials = dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let credential = credentials.join("procstar-http-token");
    write_secret(&credential, "correct horse battery staple 31337\n");
    let show = ["config", "show"];
    let with_config = ["--config", config.to_str().unwrap(), "config", "show"];
    let of_config = format!("configuration file {}, which holds http.token: ", config.display());
    for (file, args, env, named) in [
        (&token, &show[..], vec![("PROCSTAR_HTTP_TOKEN_FILE", &*token)], "secret file"),
        (&token, &show, vec![("PROCSTAR_AGENT_TOKEN_FILE", &*token)], "secret file"),
        (&credential, &show, vec![("CREDENTIALS_DIRECTORY", &*credentials)], "secret file"),
        (&config, &with_config, vec![], of_config.as_str()),
    ] {
        for (bits, does) in [(0o644, "read"), (0o604, "read"), (0o622, "write")] {
            mode(file, bits);
            let said = refusal(&procstar(args, &env).output().unwrap());
            let named = if does == "read" { named } else { &*file.to_string_lossy() };
            assert!(said.contains("refusing ") && said.contains(named), "{said}");
            assert!(said.contains(&format!("every user can {does} it (mode {bits:04o}")), "{said}");
            assert!(said.contains("run `chmod go-") && !said.contains("horse"), "{said}");
        }
        mode(file, 0o600);
        let output = procstar(args, &env).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_key_that_others_can_read_and_a_certificate_that_they_can_write_are_refused() {
    let dir = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["agent.test".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    write(&cert, made.cert.pem()).unwrap();
    write_secret(&key, made.signing_key.serialize_pem());
    let runtime = dir.path().join("run");
    std::fs::create_dir(&runtime).unwrap();
    let serve = ["--serve", "--serve-port", "0", "--exit"];
    let agent = ["--agent", "--agent-host", "localhost", "--agent-port", "1"];
    let http = [
        ("PROCSTAR_HTTP_TLS_CERT", &*cert),
        ("PROCSTAR_HTTP_TLS_KEY", &*key),
        ("PROCSTAR_RUN_RUNTIME_DIR", &*runtime),
    ];
    for (path, bits, args, env, does) in [
        (&key, 0o644, &serve[..], &http[..], "read"),
        (&cert, 0o666, &serve, &http, "write"),
        (&cert, 0o666, &agent, &[("PROCSTAR_AGENT_CERT", &*cert)], "write"),
    ] {
        let before = path.metadata().unwrap().permissions();
        mode(path, bits);
        let said = refusal(&procstar(args, env).output().unwrap());
        let named = format!(" file {}: every user can {does} it", path.display());
        assert!(said.contains("refusing ") && said.contains(&named), "{said}");
        set_permissions(path, before).unwrap();
    }
    assert!(procstar(&serve, &http).output().unwrap().status.success());
    if is_root() {
        // As the group ssl-cert of Debian: root has chosen who may read it.
        chown(&key, Some(0), Some(MALLORY)).unwrap();
        mode(&key, 0o640);
        assert!(procstar(&serve, &http).output().unwrap().status.success());
        chown(&cert, Some(MALLORY), None).unwrap();
        let said = refusal(&procstar(&serve, &http).output().unwrap());
        assert!(
            said.contains("it belongs to user 65001, who is neither root nor root (0)"),
            "{said}"
        );
    }
}

#[test]
fn a_command_sends_no_token_that_others_can_read() {
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("token");
    write(&token, "secret\n").unwrap();
    let args = ["ps", "--url", "http://127.0.0.1:1", "--token-file", token.to_str().unwrap()];
    let said = refusal(&procstar(&args, &[]).output().unwrap());
    let named = format!("refusing token file {}: every user can read it", token.display());
    assert!(said.contains(&named), "{said}");
}

/// A file that the caller has opened is not checked.
#[test]
fn descriptors_and_process_substitution_are_accepted() {
    let dir = TempDir::new().unwrap();
    write(dir.path().join("token"), "correct horse battery staple 31337\n").unwrap();
    write(dir.path().join("config"), "[log]\nlevel = \"trace\"\n").unwrap();
    mode(&dir.path().join("config"), 0o666);
    for script in [
        "PROCSTAR_HTTP_TOKEN_FILE=/dev/fd/7 $P config show 7<token",
        "PROCSTAR_HTTP_TOKEN_FILE=/dev/stdin $P config show <token",
        "$P --config <(cat config) config show",
        "$P --config /dev/fd/9 config show 9<config",
        "$P --config /dev/stdin config show <config",
        "mkfifo f; cat config >f & $P --config f config show",
    ] {
        let mut bash = Command::new("/bin/bash");
        bash.args(["-c", script]).current_dir(dir.path()).env("P", env!("CARGO_BIN_EXE_procstar"));
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    }
}
