//! Commands that are killed while they wait leave no open connections in the instance.

use std::net::TcpListener;
use std::process::{Child, Stdio};

use super::harness::Instance;
use crate::support::process::open_fds;
use crate::support::wait::eventually;

fn end(children: Vec<Child>) {
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn abandoned_waits_give_their_descriptors_back() {
    let instance = Instance::new();
    instance.run(&["start", "--id", "s", "--", "sleep", "1000"]).good();
    let worker = instance.worker_pid();
    let open = || open_fds(worker);
    let before = open();
    for args in [&["wait", "s"][..], &["logs", "-f", "s"]] {
        let waiting: Vec<Child> = (0..20)
            .map(|_| instance.command(args).stdout(Stdio::null()).spawn().unwrap())
            .collect();
        eventually("connections", || open() >= before + 20);
        end(waiting);
        // What the service itself needs, once it has been used, is less than that.
        eventually("end of the connections", || open() < before + 10);
    }
}

/// A waiting command enables TCP keep-alive, to detect that the machine of the service is gone.
#[test]
fn connections_to_a_url_are_kept_alive() {
    let instance = Instance::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let mut command = instance.command(&["wait", "--url", &url, "s"]);
    let waiting = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let accepted = listener.accept().unwrap();
    // The timer field in /proc/net/tcp is 02 for keep-alive.
    eventually("keep-alive", || {
        let shown = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let of_command = |line: &&str| {
            let remote = line.split_whitespace().nth(2);
            remote.is_some_and(|remote| remote.ends_with(&format!(":{port:04X}")))
        };
        let is_kept = |line: &str| {
            line.split_whitespace().nth(5).is_some_and(|timer| timer.starts_with("02:"))
        };
        shown.lines().filter(of_command).any(is_kept)
    });
    drop(accepted);
    end(vec![waiting]);
}
