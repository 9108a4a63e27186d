//! The texts of errors, as they stand in the sources.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::pages::{root, visit};
use super::source::{shown, unescaped};

/// A title, the directories below `src/` whose errors belong there, and the remedy of those without one of their own.
const SECTIONS: [(&str, &[&str], &str); 7] = [
    (
        "Specs",
        &["spec"],
        "Correct the spec at the place that the message names; `procstar validate` checks it without starting anything.",
    ),
    (
        "Configuration and start",
        &[
            "config",
            "app",
            "logging",
            "trust",
            "rotating",
            "cli/starting",
            "cli/parse",
            "cli/input",
            "cli/invocation",
        ],
        "Correct the setting or file that the message names; `procstar config show` prints what is in effect and where it comes from.",
    ),
    (
        "Commands",
        &["cli"],
        "The message names the remedy; `procstar COMMAND --help` has the options and examples.",
    ),
    (
        "HTTP",
        &["http", "api", "output"],
        "Correct the request as the message says; [HTTP](http.md) describes each request.",
    ),
    (
        "Processes and their output",
        &["actors", "engine", "report", "procfs", "sampler", "mem"],
        "See `errors` and `failures` in the result, and the log of the instance.",
    ),
    (
        "Agent protocol and network",
        &["dispatch", "net", "wire"],
        "The agent tries again by itself. If it does not succeed, compare host, port, certificate and token with the scheduler's; the log names the cause.",
    ),
    (
        "Keeper",
        &["keeper"],
        "Shown in the log or by `procstar upgrade`; the running instance goes on. Check the disk and the state directory, then try again.",
    ),
];

/// Remedies of errors whose text has these words; the first that fits counts. Others have their section's.
const REMEDIES: [(&str, &str); 113] = [
    // Specs.
    ("given twice", "Remove one of the two."),
    (
        "pipe-read",
        "Give each `pipe-write` exactly one `pipe-read` in the same request: [pipes](spec.md#pipes).",
    ),
    ("missing key", "Add the key, or correct its name."),
    (
        "unknown resource",
        "Use one of the names that the message lists: [rlimits](spec.md#attributes).",
    ),
    ("unknown signal", "Use a name such as `TERM` or `SIGTERM`, or a number from 1 to 64."),
    ("signal has the number", "Use a number from 1 to 64, or a name."),
    ("cannot be blocked", "SIGKILL and SIGSTOP cannot be blocked or ignored: remove them."),
    ("cannot be ignored", "SIGKILL and SIGSTOP cannot be blocked or ignored: remove them."),
    ("umask", "Write it as a string of octal digits: `\"0027\"`."),
    ("NUL character", "Remove the NUL character; pass binary data by a file or `data`."),
    ("in one request: split it", "Send several requests."),
    ("process ID has", "Choose an ID of 1 to 4,096 bytes."),
    ("invalid process ID", "Choose an ID of 1 to 4,096 bytes."),
    ("invalid fd name", "Use `stdin`, `stdout`, `stderr` or a number."),
    ("capture.keep_head", "Ask for less, or raise `capture.keep_head` and `capture.keep_tail`."),
    // Configuration and start.
    ("did you mean", "Correct the name; the message has the most similar one."),
    (
        "cannot listen",
        "Another program has the address: stop it, or choose another `--http-port`; the message names its user.",
    ),
    ("refusing secret", "Make the file private: `chmod go-rwx FILE`, owned by root or you."),
    (
        "which holds",
        "Make the file private: `chmod go-rwx FILE`, or move the token to a file of its own.",
    ),
    (
        "refusing configuration",
        "Run the command that the message names, usually `chmod go-w FILE`.",
    ),
    (
        "refusing to serve",
        "Set `http.tls_cert` and `http.tls_key`, and `http.token` or `http.client_ca`: [serve other machines](http.md#serve-other-machines).",
    ),
    (
        "refusing to run",
        "Another user can change the program: correct owner and mode of the file and its directories.",
    ),
    (
        "write results",
        "Check the directory's permissions and free space, or choose another path; the message names a file with the results, if they could be kept.",
    ),
    ("require_token is set, but no token", "Set `PROCSTAR_HTTP_TOKEN_FILE`."),
    (
        "gave up connecting",
        "Check host, port, certificate and token; the log has the cause. `agent.connect.count_max` sets the number of attempts.",
    ),
    ("is set too", "Set only one of the two variables."),
    ("secret file", "Check that the file exists and is readable, and has one token."),
    ("environment variable", "Correct or unset the variable."),
    // Commands.
    ("no command", "Use a command of `procstar --help`, or write `./NAME` for a file."),
    ("several procstars", "Choose one by `--pid` or `--socket`."),
    ("multiple instances", "Choose one by `--pid` or `--socket`."),
    (
        "start one by",
        "Start one by `procstar serve`, or name one by `--socket`, `--url` or `--state-dir`.",
    ),
    ("standard output", "Check the disk or the reader of the pipe."),
    ("cannot reach", "Check that the instance runs and that address and port are right."),
    (
        "lost the connection",
        "Repeat the command; if it changed something, check by `procstar ps` first.",
    ),
    ("has ended", "See its result; a process that has ended can only be deleted."),
    ("is running", "Stop it first, or delete it by `procstar rm -f ID`."),
    // HTTP and the maxima.
    ("already in use", "Choose another ID, or delete the process: `procstar rm ID`."),
    ("unknown process", "List the IDs by `procstar ps`; the process may have been deleted."),
    ("run.max_running", "Wait until processes have ended, or raise `run.max_running`."),
    (
        "run.max_processes",
        "Delete ended processes (`procstar prune`), or raise `run.max_processes`.",
    ),
    (
        "capture.max_total",
        "Delete ended processes (`procstar prune`), or raise `capture.max_total`.",
    ),
    ("shutting down", "The instance ends: send the request to another one, or start a new one."),
    ("larger than", "Send less, or raise the setting that the message names."),
    ("not captured", "Add a `capture` for this descriptor to the spec."),
    (
        "is gone",
        "The file was removed from outside; run the process again. Keep cleaners away from the [directories](../failure-model.md#cleaners).",
    ),
    (
        "changed",
        "The file was changed from outside after the end; run the process again under a `user` of its own.",
    ),
    ("cursor", "Start again without a cursor."),
    ("wrong tokens", "Wait as long as the header `Retry-After` says, and send the right token."),
    ("session", "Open the web UI by `procstar ui`."),
    ("Host header", "Send one `Host` header, as the message shows."),
    ("loopback", "Use the URL that the message names."),
    ("certificate is for", "Use a host name of the service's certificate."),
    ("does not cover", "Use a host name of the service's certificate."),
    (
        "namespaces",
        "Use the Unix socket, or present the token: [access control](http.md#access-control).",
    ),
    (
        "Sec-Fetch",
        "Programs send no `Sec-Fetch-*` headers; browsers use the web UI: `procstar ui`.",
    ),
    ("content type", "Send `Content-Type: application/json`."),
    // The network.
    ("resolve host name", "Correct `agent.host`, or DNS."),
    (
        "certificate of",
        "Set `PROCSTAR_AGENT_CA` to the scheduler's certificate or its root, and dial a name of the certificate.",
    ),
    ("cannot connect to", "Check that the scheduler runs, the port, and the firewall."),
    (
        "PEM",
        "Convert the file to PEM (`openssl x509`, `openssl pkey`), with certificate and key as the setting asks for.",
    ),
    // The keeper.
    (
        "state directory",
        "Stop the other instance, or choose another `--state-dir` that belongs to this user with mode 0700.",
    ),
    ("directory", "Correct owner and mode of the directory, or choose another one."),
    // Words of many errors: last.
    ("out of range", "Choose a value in the range that the message names."),
    ("negative", "Choose a value in the range that the message names."),
    ("object of one key", "Give exactly one kind, such as `{\"capture\": {}}`: [FD](spec.md#fd)."),
    (
        "unlimited",
        "Write a number, a size or `\"unlimited\"`, or `[SOFT, HARD]`: [rlimits](spec.md#attributes).",
    ),
    ("absolute", "Write the path from `/` on."),
    ("default, too", "Name each signal in one of the lists only."),
    ("user or group number", "Use a name, or a number below 4294967295."),
    ("reserved ID", "Use a name, or a number below 4294967295."),
    ("only the first", "Correct the errors that are shown, and check again."),
    ("set up the log", "A fault of procstar: report it."),
    ("other name", "Keep one of the two names of the setting."),
    ("one already", "A fault of procstar: report it."),
    ("malformed path", "Percent-encode the ID: [bodies and errors](http.md#bodies-and-errors)."),
    ("read capture", "Check the disk and the log; the capture's file cannot be read."),
    (
        "can be asked",
        "Start an instance by `procstar serve`, or name one by `--socket`, `--url` or `--state-dir`.",
    ),
    ("whole character", "Ask for a larger range, or without `utf8`."),
    ("range beyond", "Ask for a range within the length in `Content-Range`."),
    ("precondition", "Read the resource again, and repeat the request with its new `ETag`."),
    ("coding", "Accept `identity`, `gzip`, `br` or `zstd`; send bodies uncompressed."),
    ("content encoding", "Send the body uncompressed."),
    ("method not allowed", "Use a method of the header `Allow`."),
    ("unknown path", "Use a path of [HTTP](http.md) or of `/openapi.json`."),
    ("older_than", "Give at least one of `state`, `label` and `older_than`."),
    ("request body", "Send valid JSON without pauses of 30 s."),
    ("signal", "Check the signal, and whether procstar may send it to the process's user."),
    (
        "frame",
        "The other end, or a proxy between, breaks the WebSocket protocol: check that host and port are the scheduler's. The agent reconnects.",
    ),
    ("message", "The other end breaks the protocol: check its version. The agent reconnects."),
    (
        "websocket",
        "Host and port must be the scheduler's WebSocket; the message has what answered instead.",
    ),
    ("tls handshake", "Check that the port is the scheduler's TLS port, and its certificate."),
    ("timed out", "Check the network and the load of the scheduler. The agent reconnects."),
    ("journal", "Make room on the disk of the state directory or `capture.dir`."),
    (
        "state",
        "Install a version that is not older than the running one; the running instance goes on.",
    ),
    (
        "can go on",
        "Install procstar, of this version or a later one, at the path; the running instance goes on.",
    ),
    (
        "did not answer",
        "Check the program at the path, then upgrade again; the running instance goes on.",
    ),
    ("reserved for procstar", "Unset the variable."),
    ("keeper", "Start the instance again; with `run.state_dir` it finds its processes again."),
    ("connection", "Check the network and the scheduler's log. The agent reconnects."),
    ("scheduler", "Check the scheduler and its log. The agent reconnects."),
    ("server", "Check the scheduler and its log. The agent reconnects."),
    ("manual page", "Choose a directory that you can write to: `procstar man --dir DIR`."),
    ("cannot read", "Check that the file exists and that this user may read it."),
    ("cannot write", "Check permissions and free space."),
    ("unknown key", "Correct the key's name, or remove it."),
    ("expected", "Write the value in the form that the message asks for."),
    ("pid", "The log of that instance has the cause; list instances by `procstar ps`."),
    ("ending", "The instance ends: start a new one, or ask another one."),
    (
        "service worker",
        "Clear the site's data in the browser, and open the web UI by `procstar ui`.",
    ),
    (
        "browser",
        "Open the web UI by `procstar ui`; programs send neither `Origin` nor `Sec-Fetch-*` headers.",
    ),
    ("origin", "Programs send no `Origin`; browsers use the web UI: `procstar ui`."),
    ("client certificate", "Connect with a certificate of a root in `http.client_ca`."),
];

fn remedy_of(text: &str) -> &'static str {
    let words = |(words, _): &&(&str, &str)| text.contains(words);
    REMEDIES.iter().find(words).map_or("See the remedy above this table.", |(_, remedy)| remedy)
}

/// The page's tables.
pub fn page() -> String {
    let mut by_section: Vec<BTreeSet<String>> = vec![BTreeSet::new(); SECTIONS.len()];
    let source = root().join("src");
    visit(&source, &mut |path, text| {
        let path = path.strip_prefix(&source).unwrap().to_str().unwrap();
        let everything = path.starts_with("spec/") || path.starts_with("config/");
        let texts = texts(text, everything);
        if texts.is_empty() {
            return;
        }
        // The longest directory that fits.
        let fits = |(at, (_, dirs, _)): (usize, &(&str, &[&str], &str))| {
            let dirs = dirs.iter().filter(|dir| path.starts_with(**dir));
            dirs.map(|dir| dir.len()).max().map(|len| (len, at))
        };
        let section = SECTIONS.iter().enumerate().filter_map(fits).max();
        let (_, section) = section.unwrap_or_else(|| panic!("no section for {path}"));
        by_section[section].extend(texts);
    });
    let mut page = String::new();
    for ((title, _, remedy), texts) in SECTIONS.iter().zip(by_section) {
        writeln!(page, "## {title}\n\n{remedy}\n\n| error | remedy |\n| --- | --- |").unwrap();
        for text in texts {
            writeln!(page, "| `{text}` | {} |", remedy_of(&text)).unwrap();
        }
        page.push('\n');
    }
    page
}

/// The texts of a file: those of `#[error("...")]`, and, if asked for, of `format!` and `custom`.
fn texts(source: &str, everything: bool) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut openings = vec!["#[error("];
    if everything {
        openings.extend(["format!(", "custom("]);
    }
    let mut found = BTreeSet::new();
    for opening in openings {
        for rest in source.split(opening).skip(1) {
            if let Some(literal) = rest.trim_start().strip_prefix('"') {
                let text = shown(&unescaped(literal));
                let words = text.split(' ').filter(|word| word.len() > 2).count();
                if words > 1 && !text.starts_with(['{', '/', '<']) && is_a_sentence(&text) {
                    found.insert(text);
                }
            }
        }
    }
    found
}

/// Whether it is more than a place or a list.
fn is_a_sentence(text: &str) -> bool {
    text.split(' ').filter(|word| word.chars().all(|c| c.is_ascii_alphabetic())).count() > 1
}
