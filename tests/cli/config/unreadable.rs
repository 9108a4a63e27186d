//! Unreadable certificates, keys and tokens: the error names the file and the system's reason, and
//! nothing is started.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::private::write_secret;

/// Asserts exit code 2; returns the error message.
fn refused(args: &[&str], env: &[(&str, &Path)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_procstar"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

const AGENT: &[&str] = &["--agent", "--agent-host", "localhost"];
const SERVE: &[&str] = &["--serve", "--serve-port", "0"];

#[test]
fn a_missing_file_is_reported_with_the_systems_reason() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = dir.path().join("cert");
    std::fs::write(&cert, made.cert.pem()).unwrap();
    let (cert, missing) = (cert.as_path(), missing.as_path());
    for (args, env, what) in [
        (AGENT, vec![("PROCSTAR_AGENT_CERT", missing)], "agent.cert: cannot read certificate file"),
        (AGENT, vec![("PROCSTAR_AGENT_TOKEN_FILE", missing)], "cannot read secret file"),
        (SERVE, vec![("PROCSTAR_HTTP_TOKEN_FILE", missing)], "cannot read secret file"),
        (
            SERVE,
            vec![("PROCSTAR_HTTP_TLS_CERT", missing), ("PROCSTAR_HTTP_TLS_KEY", missing)],
            "cannot read certificate file",
        ),
        (
            SERVE,
            vec![("PROCSTAR_HTTP_TLS_CERT", cert), ("PROCSTAR_HTTP_TLS_KEY", missing)],
            "cannot read private key file",
        ),
    ] {
        let text = refused(args, &env);
        assert!(text.contains(what), "{text}");
        assert!(text.contains(missing.to_str().unwrap()), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
    }
    let text = refused(AGENT, &[("PROCSTAR_AGENT_CERT", dir.path())]);
    assert!(text.contains("Is a directory"), "{text}");
}

#[test]
fn a_file_of_the_wrong_content_is_named_in_words() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        write_secret(&path, text);
        path
    };
    let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (one, two) = (made("one.test"), made("two.test"));
    let (cert, key) =
        (write("cert", &one.cert.pem()), write("key", &one.signing_key.serialize_pem()));
    let other = write("other", &two.signing_key.serialize_pem());
    let cut = write("cut", "-----BEGIN CERTIFICATE-----\nMIIB");
    let damaged =
        write("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (args, env, text) in [
        (AGENT, vec![("PROCSTAR_AGENT_CERT", &key)], "no PEM certificate in certificate file"),
        (AGENT, vec![("PROCSTAR_AGENT_CERT", &cut)], "a section has no end line"),
        (AGENT, vec![("PROCSTAR_AGENT_CERT", &damaged)], "a certificate in it is damaged"),
        (
            SERVE,
            vec![("PROCSTAR_HTTP_TLS_CERT", &cert), ("PROCSTAR_HTTP_TLS_KEY", &cert)],
            "no unencrypted PEM private key in private key file",
        ),
        (
            SERVE,
            vec![("PROCSTAR_HTTP_TLS_CERT", &cert), ("PROCSTAR_HTTP_TLS_KEY", &other)],
            "certificate and private key do not match",
        ),
    ] {
        let env: Vec<_> = env.iter().map(|(name, path)| (*name, path.as_path())).collect();
        let said = refused(args, &env);
        assert!(said.contains(text), "{said}");
        assert!(!said.contains(['(', '{']), "no value of Rust: {said}");
    }
}
