//! The text below the options of each command's `--help`: examples, and exit codes if the command
//! has its own.

pub(super) const START: &str = "\
Examples:
  Start all processes of a spec file, and print their IDs:
      procstar start spec.json
  One process, its output captured with order and times:
      procstar start --id ping --label team=a -- ping -c 100 localhost
  From standard input:
      echo '{\"specs\": {\"a\": {\"argv\": [\"/bin/true\"]}}}' | procstar start -

A program without a slash is looked up in the instance's PATH. That a process could not be executed shows in
its result (procstar show ID). A spec that is refused starts nothing, and exits with 1.";

pub(super) const PS: &str = "\
Examples:
  All processes that are not deleted:
      procstar ps
  What runs, with labels, for the eye:
      procstar ps --state running -o wide
  Exit codes of a night's jobs, for a program:
      procstar ps --label job=nightly -o jsonl | jq -r '[.id, .result.status.exit_code] | @tsv'
  Stop all of a team's:
      procstar ps -q --state running --label team=a | xargs -r -d '\\n' procstar stop --

json is {ID: RESULT, ...}; jsonl has {\"id\": ID, \"result\": RESULT} on each line. Captured output is in
neither: see logs, and show --captures.";

pub(super) const SHOW: &str = "\
Examples:
  Everything about a process, for people:
      procstar show backup
  Its result as JSON, with all it wrote:
      procstar show backup -o json --captures inline";

pub(super) const LOGS: &str = "\
Examples:
  All that a process wrote:
      procstar logs backup
  The last ten lines, and then each as it comes:
      procstar logs -f --tail 10 backup
  What it said on standard error in the last five minutes, with times:
      procstar logs -t --since 5m --stream stderr backup

All streams go to standard output. Where the capture's spec asks for `chunk_times` (as `start -- ARGV` does), they are
interleaved as they were written, and there are times for -t and --since. Without, one comes after the other, and
what is followed as it comes. -f ends when the process has.";

pub(super) const WAIT: &str = "\
Examples:
  Wait for a process, and do as it did:
      procstar wait backup
  For ten minutes at most:
      procstar wait --timeout 10m backup || test $? = 124

Exit codes:
  the process's exit code; 128+N where signal N ended it; of several, the first in their order that is not 0
  124  still running when the timeout was over
  125  it could not be started as specified, or is lost; or waiting itself failed: no such process, no answer
  2    wrong usage";

pub(super) const STOP: &str = "\
Examples:
  Ask a process to end; kill it after 10 s:
      procstar stop backup
  By SIGINT, with a minute's grace:
      procstar stop --signal INT --grace 1m backup

Each ID is printed once its process has ended (with --no-wait: once the signal has been sent).";

pub(super) const KILL: &str = "\
Examples:
  Have a daemon read its configuration again:
      procstar kill -s HUP daemon
  Kill at once:
      procstar kill -s KILL a b c";

pub(super) const RM: &str = "\
Examples:
  Delete an ended process and its output:
      procstar rm backup
  Delete it even if it is still running:
      procstar rm --force backup";

pub(super) const PRUNE: &str = "\
Examples:
  All that ended more than a day ago:
      procstar prune --older-than 1d
  Show what that would delete:
      procstar prune --older-than 1d --dry-run
  All of a job that could not be started:
      procstar prune --state error --label job=nightly

Running processes are never deleted.";

pub(super) const EVENTS: &str = "\
Examples:
  What happens from now on:
      procstar events
  For a program, with the present state first:
      procstar events -o jsonl | jq -r 'select(.event == \"ended\") | .id'

jsonl has the events of GET /events as they are: a snapshot first. Where the worker starts again, events go on.";

pub(super) const LOG_LEVEL: &str = "\
Examples:
  See what the connection to the server does, and then no more:
      procstar log-level debug
      procstar log-level configured

The level holds until the instance ends, also when its worker starts again or it is upgraded, and also
where it was started with --log-level. Without LEVEL the present one is printed.";

pub(super) const TOP: &str = "\
Examples:
  Live; q ends it:
      procstar top
  Once, the ten that use most:
      procstar top --once -n 10

CPU% is of one processor: since the last look, or, in the first, over the process's life. RSS is the process's own, without
its children.";

pub(super) const UI: &str = "\
Examples:
  Open the page in a browser ($BROWSER, or xdg-open):
      procstar ui
  On another machine, to which `ssh -L 3000:127.0.0.1:3000 MACHINE` forwards the port; open the URL here:
      procstar ui --print

The URL is valid once, within 60 s, for a browser of your own user, which can then start and stop processes for 24 hours at most. Without it
the page only shows what there is. Its host name below localhost is new each time, so that nothing that another
program has left in the browser can act in the page's place.";
