//! Another user has created the directories that an instance would create.
//!
//! The tests need root for a mount namespace with its own `/tmp` and for two users; without root,
//! they test nothing.

use std::process::Command;

use super::harness::Ran;

/// Runs a script in a mount namespace of its own. `$M` and `$A` run a command as mallory and as
/// alice; `$P` is the program.
fn as_mallory_and_alice(script: &str) -> Option<Ran> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let prelude = r#"
        cd /
        for d in /tmp /var/tmp /dev/shm; do mount -t tmpfs none $d -o mode=1777 || exit 99; done
        M="setpriv --reuid 65001 --regid 65001 --clear-groups"
        A="setpriv --reuid 65002 --regid 65002 --clear-groups env -i PATH=/usr/bin:/bin HOME=/nonexistent"
        wait_for() { for i in $(seq 1500); do "$@" >/dev/null 2>&1 && return; sleep 0.02; done; echo "no: $*"; exit 98; }
        listing() { (cd /; ls -d tmp/procstar* var/tmp/procstar* dev/shm/procstar* 2>/dev/null); }
        trap 'kill $(jobs -p) 2>/dev/null' EXIT
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", &format!("{prelude}\n{script}")]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("P", env!("CARGO_BIN_EXE_procstar"));
    Some(Ran::of(command.output().unwrap()))
}

/// Mallory creates the directories first. Alice's instance must still start, and her commands must
/// find it.
#[test]
fn an_instance_uses_other_names_and_commands_find_it() {
    let script = r#"
        for d in /tmp /var/tmp /dev/shm; do
            for n in procstar-run-65002 procstar-65002; do $M mkdir $d/$n; done
        done
        before=$(listing)
        $A $P --serve --serve-port 0 >/dev/null 2>/tmp/log & K=$!
        wait_for $A $P ps
        $A $P start --id a -- /bin/echo hi || exit 1
        wait_for $A $P wait a
        echo "output: $($A $P logs a)"
        echo "upgrade: $($A $P upgrade 2>&1 | cut -d' ' -f3,4)"
        cat /tmp/log >&2
        # The next start removes what a killed instance has left below the other names.
        kill -KILL $K; wait $K
        dead=$(listing)
        [ "$dead" != "$before" ] || echo "nothing was left"
        $A $P --serve --serve-port 0 >/dev/null 2>&1 & K=$!
        wait_for $A $P ps
        for name in $dead; do [[ $'\n'$before$'\n' == *$'\n'$name$'\n'* ]] || [ ! -e /$name ] || echo "left: $name"; done
        # Without mallory's directory, the next instance uses the usual name; commands find both.
        rmdir /tmp/procstar-run-65002
        $A $P --serve --serve-port 0 >/dev/null 2>&1 & L=$!
        wait_for sh -c 'test -e /tmp/procstar-run-65002/*/http.sock'
        $A $P ps 2>&1 | grep -c -e "--pid"
        kill $K $L; wait $K $L
        listing | grep -v -x -F "$before"
        $A $P ps; echo "exit $?"
    "#;
    let Some(ran) = as_mallory_and_alice(script) else { return };
    let out: Vec<&str> = ran.out.lines().collect();
    assert_eq!(out, ["a", "output: hi", "upgrade: now runs", "2", "exit 1"], "{ran:?}");
    let said =
        "the usual runtime directory is not this user's alone; remove it, or set run.runtime_dir";
    assert!(ran.err.contains(said), "{ran:?}");
    assert!(ran.err.contains("taken=/tmp/procstar-run-65002"), "{ran:?}");
    assert!(ran.err.contains("but belongs to user 65001 and has mode 0755"), "{ran:?}");
    let none = "\n  /var/tmp/procstar-run-65002 was to be a directory of this user, but belongs to user 65001";
    assert!(ran.err.contains(none), "{ran:?}");
}

/// `sudo -E` leaves the session directory of another user in the environment. Its owner could
/// replace what is in it.
#[test]
fn a_runtime_directory_of_another_user_is_not_used() {
    let script = r#"
        $M mkdir -m 777 /tmp/session
        export XDG_RUNTIME_DIR=/tmp/session
        A="$A XDG_RUNTIME_DIR=/tmp/session"
        $A $P --serve --serve-port 0 >/dev/null 2>&1 & K=$!
        wait_for $A $P ps
        ls -A /tmp/session; ls -d /tmp/procstar-run-*
        kill $K; wait $K
    "#;
    let Some(ran) = as_mallory_and_alice(script) else { return };
    assert_eq!(ran.out, "/tmp/procstar-run-65002\n", "{ran:?}");
}
