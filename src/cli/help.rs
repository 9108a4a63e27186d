//! The parts of `--help` that are prose: examples, exit codes, environment.

/// What stands below the options of `--help`.
pub(super) const AFTER_LONG: &str = "\
Examples:
  Run the processes of a spec file, wait for them, and print their results as JSON:
      procstar --print spec.json
  The same from standard input, results to a file:
      procstar --output results.json - < spec.json
  Serve clients over HTTP on 127.0.0.1, until told to stop:
      procstar --serve --serve-port 3000
  Run the processes of a spec file, serve their results, exit when all are deleted:
      procstar --serve --wait spec.json
  Work for a server, and exit after ten minutes without work:
      PROCSTAR_AGENT_TOKEN=... procstar --agent --agent-host HOST --wait --wait-timeout 600
  See the effective configuration, and where each value comes from:
      procstar config show
  Check a spec, with every error of it, and get the JSON Schema of specs and of results:
      procstar validate spec.json
      procstar schema specs
  Run one command in the foreground, for an hour at most, and exit as it does:
      procstar run --timeout 1h -- make all
  See what this host supports, and what to do about what it does not:
      procstar doctor
  Ask a running instance; each command has a --help of its own:
      procstar start --id ping -- ping localhost
      procstar ps
      procstar logs -f ping
      procstar ui

A spec file is {\"specs\": {PROC_ID: {\"argv\": [...], \"env\": {...}, \"fds\": [...]}, ...}}. A file
that is called as a command is, such as `config`, is given as ./config.

Exit codes:
  0  done: the results tell how the processes ended
  1  failed: gave up connecting, could not write results, could not listen
  2  wrong usage, configuration, INPUT or SPEC; nothing was started

Configuration, later ones win:
  /etc/procstar/procstar.toml, $XDG_CONFIG_HOME/procstar/procstar.toml (or below $HOME/.config),
  --config FILE, environment variables, options.

Environment:
  PROCSTAR_AGENT_HOST, PROCSTAR_AGENT_PORT, PROCSTAR_GROUP_ID   as the options of these names
  PROCSTAR_AGENT_CERT        PEM file: an extra root, or the server's own certificate
  PROCSTAR_AGENT_CA          PEM file: the only roots, or the server's own certificate
  PROCSTAR_AGENT_TOKEN       what the server asks for at registration
  PROCSTAR_HTTP_TOKEN        lets HTTP requests in that bear it, whoever sends them
  PROCSTAR_AGENT_TOKEN_FILE, PROCSTAR_HTTP_TOKEN_FILE   files that hold the tokens; so may
                             procstar-agent-token, procstar-http-token in $CREDENTIALS_DIRECTORY
  PROCSTAR_SECTION_KEY       any other setting: PROCSTAR_CAPTURE_DIR is capture.dir
";

/// Two ways, where clap would show one that mixes them.
pub(super) const USAGE: &str = "procstar [OPTIONS] [INPUT]
       procstar [OPTIONS] config show [--json]
       procstar run [OPTIONS] [--] CMD [ARGS]...
       procstar validate SPEC [-o text|json]
       procstar schema specs|results
       procstar start|ps|show|logs|wait|stop|kill|rm|prune|events|top|ui [OPTIONS] ...
       procstar doctor [-o text|json]";

/// What is missing where there is nothing to do or to wait for.
pub(super) const NOTHING_TO_DO: &str = "\
procstar would have no reason to run, or none to end; add at least one of
  --print       run INPUT, print the results as JSON, exit
  --output PATH the same, to a file
  --exit        exit when no process is running
  --wait        exit when no process is left that is not deleted
  --serve       take processes over HTTP
  --agent       take processes from a server";

/// What is missing where the agent has no server.
pub(super) const NO_HOST: &str = "\
an agent needs its server's host; add --agent-host HOST, or set PROCSTAR_AGENT_HOST,
or `host` below [agent] in a configuration file";

/// What is wrong where an agent is to dial what a server listens on.
pub(super) const NOT_A_HOST: &str = "\
agent.host is \"*\", which means every interface to a server and cannot be connected to;
set --agent-host or PROCSTAR_AGENT_HOST to the server's host name or IP address";

/// What is wrong where a run in the foreground is to last.
pub(super) const RUN_ENDS: &str = "\
`run` is for one process, ends with it, and keeps nothing:
it takes neither --serve nor --agent nor --state-dir";

/// What stands below the options of `run --help`.
pub(super) const AFTER_RUN: &str = "\
Examples:
  Run a command for ten minutes at most; 15 s after SIGINT it is killed with all it has started:
      procstar run --timeout 10m --signal INT --grace 15 -- ./train.py --epochs 3
  In another directory, with one variable more:
      procstar run -C /srv/app -e DEBUG=1 -- make test
  In an empty environment, but for PATH and HOME:
      procstar run --no-env -e PATH -e HOME -- env
  As another user, with limits; needs privilege:
      procstar run --user nobody --limit nofile=256 --limit core=0 -- ./server
  Keep what became of it, its output too:
      procstar run --result result.json --capture --label job=7 -- ./job.sh
      jq '.[].status, .[].rusage.maxrss' result.json

A CMD without a slash is looked up in the PATH that the process gets, as in a shell. The process
has our own standard input, output and error, nothing in between: what it writes is there at once,
and it sees the terminal. With --capture it writes to pipes, which procstar passes on.

It has a session of its own, so the terminal's signals reach procstar alone. procstar passes
SIGINT (Ctrl-C) and SIGTERM on to it and its group, and kills it with all its descendants after
--grace, or at once at the second signal or at SIGQUIT (Ctrl-\\). Ctrl-Z stops procstar only: the
process runs on. It has no controlling terminal: it cannot open /dev/tty.

Exit codes:
  the command's own; 128 and the number of the signal that ended it
  124  its time was over (--timeout)
  125  procstar itself failed, or was called wrongly
  126  CMD cannot be executed, or may not be (--restrict-exe)
  127  CMD is not there
";

/// What stands below the options of `doctor --help`.
pub(super) const AFTER_DOCTOR: &str = "\
Examples:
  procstar doctor
  procstar doctor -o json | jq '.checks[] | select(.level != \"ok\")'
  procstar doctor --config /srv/procstar.toml
  procstar doctor --security

Each line is a check that was really made: a system call that was tried, a file that was read.
  ok    there, and enough
  note  not there, and only asked for by some specs; or good to know
  warn  something works less well, or for fewer processes
  fail  procstar cannot work

With --security, `warn` and `fail` are findings: another user or machine could do more than it should.

Exit codes: 0, or 1 where something fails; with --security 1 for any finding. 2 for wrong usage.
";

/// What stands below the options of `completions --help`.
pub(super) const AFTER_COMPLETIONS: &str = "\
Examples:
  procstar completions bash > ~/.local/share/bash-completion/completions/procstar
  procstar completions zsh > ~/.zfunc/_procstar
  procstar completions fish > ~/.config/fish/completions/procstar.fish
";

/// What stands below the options of `man --help`.
pub(super) const AFTER_MAN: &str = "\
Examples:
  procstar man | man -l -
  procstar man run | man -l -
  procstar man --dir ~/.local/share/man/man1
";
