//! The prose of `--help`: examples, exit codes, environment, and errors of usage.

/// The text below the options of `--help`.
pub(super) const AFTER_LONG: &str = "\
Examples:
  Run the processes of a spec file, wait for them, and print their results as JSON:
      procstar --print spec.json
  Read the spec from standard input, and write the results to a file:
      procstar --output results.json - < spec.json
  Run one command in the foreground, for an hour at most:
      procstar run --timeout 1h -- make all
  Serve clients over HTTP on 127.0.0.1:
      procstar serve --port 3000
  Start processes in the running instance, and watch them:
      procstar start --id ping -- ping localhost
      procstar ps
      procstar logs -f ping
  Work for a scheduler; exit after ten minutes without work:
      PROCSTAR_AGENT_TOKEN=... procstar agent --host HOST --wait --wait-timeout 10m
  Check a spec, the configuration and this host:
      procstar validate spec.json
      procstar config show
      procstar doctor

A spec file is {\"specs\": {ID: {\"argv\": [...], \"env\": {...}, \"fds\": [...]}, ...}}. If a spec
file has the name of a command, write it with a slash: ./config.
Times are a number of seconds, or 500ms, 15m, 1h30m, 2d.

Exit codes:
  0  success; the results report how the processes ended
  1  failure: could not connect, listen or write results
  2  invalid usage, configuration, INPUT or SPEC; nothing was started

Configuration; later ones override earlier ones:
  /etc/procstar/procstar.toml
  $XDG_CONFIG_HOME/procstar/procstar.toml, or $HOME/.config/procstar/procstar.toml
  the file of --config
  environment variables
  options

Environment:
  PROCSTAR_AGENT_HOST, PROCSTAR_AGENT_PORT, PROCSTAR_GROUP_ID   as the options of these names
  PROCSTAR_AGENT_CERT   PEM file: an additional root, or the scheduler's own certificate
  PROCSTAR_AGENT_CA     PEM file: the only roots, or the scheduler's own certificate
  PROCSTAR_AGENT_TOKEN  token that the scheduler requires
  PROCSTAR_HTTP_TOKEN   token that authorizes HTTP requests of any user
  PROCSTAR_AGENT_TOKEN_FILE, PROCSTAR_HTTP_TOKEN_FILE   files with these tokens
  PROCSTAR_SECTION_KEY  any other setting: PROCSTAR_CAPTURE_DIR sets capture.dir
";

/// The usage of the program, with its commands.
pub(super) const USAGE: &str = "procstar [OPTIONS] [INPUT]
       procstar COMMAND [OPTIONS] ...";

/// The error if there is nothing to do.
pub(super) const NOTHING_TO_DO: &str = "\
nothing to do: give a command ('procstar help' lists them), or at least one of
  --print        run INPUT, print the results as JSON, and exit
  --output PATH  as --print, but write the results to PATH
  --exit         exit when no process is running
  --wait         exit when all processes have ended and are deleted
  --serve        take processes over HTTP
  --agent        take processes from a scheduler";

/// The error if the agent has no scheduler.
pub(super) const NO_HOST: &str = "\
missing agent.host, the scheduler to connect to; add --agent-host HOST, set PROCSTAR_AGENT_HOST,
or set `host` below [agent] in a configuration file";

/// The error if the agent's scheduler is a wildcard.
pub(super) const NOT_A_HOST: &str = "\
cannot connect to agent.host \"*\", which means every interface to a listener;
set --agent-host or PROCSTAR_AGENT_HOST to the scheduler's host name or IP address";

/// The error if `run` is to last.
pub(super) const RUN_ENDS: &str = "\
'run' runs one process, exits with it, and keeps nothing: it takes no --serve, --agent or --state-dir;
to keep processes, use 'procstar serve' and 'procstar start'";

/// The text below the options of `run --help`.
pub(super) const AFTER_RUN: &str = "\
Examples:
  Stop a command by SIGINT after ten minutes; 15 s later kill it and its descendants:
      procstar run --timeout 10m --signal INT --grace 15 -- ./train.py --epochs 3
  In another directory, with an additional variable:
      procstar run -C /srv/app -e DEBUG=1 -- make test
  In an empty environment, except for PATH and HOME:
      procstar run --no-env -e PATH -e HOME -- env
  As another user, with resource limits (needs privilege):
      procstar run --user nobody --rlimit nofile=256 --rlimit core=0 -- ./server
  Write the result, including output, to a file:
      procstar run --results result.json --capture --label job=7 -- ./job.sh

A CMD without a slash is looked up in the PATH of the process, as in a shell. The process inherits
standard input, output and error, so that its output appears at once and it can use the terminal.
With --capture it writes to pipes, and procstar copies its output.

The process has its own session, so the terminal signals only procstar. On SIGINT (Ctrl-C) or SIGTERM
procstar signals the process and its group; after --grace, on a second signal or on SIGQUIT (Ctrl-\\)
it kills the process and all its descendants. Ctrl-Z stops only procstar; the process keeps running.
The process has no controlling terminal: it cannot open /dev/tty.

Exit codes:
  the exit code of the process; 128+N if signal N ended it
  124  timeout expired (--timeout)
  125  procstar failed, or invalid usage
  126  CMD cannot be executed, or is not allowed (--restrict-exe)
  127  CMD not found
";

/// The text below the options of `serve --help`.
pub(super) const AFTER_SERVE: &str = "\
Examples:
  On 127.0.0.1, port 3000:
      procstar serve
  With processes of a spec file, until all of them are deleted:
      procstar serve --wait spec.json
  Over restarts, with processes, statuses and output in a directory:
      procstar serve --state-dir /var/lib/procstar
  For other machines, with TLS and a token:
      PROCSTAR_HTTP_TLS_CERT=cert.pem PROCSTAR_HTTP_TLS_KEY=key.pem PROCSTAR_HTTP_TOKEN_FILE=token \\
          procstar serve --bind 0.0.0.0

SIGTERM stops all processes, and then the instance.
";

/// The text below the options of `agent --help`.
pub(super) const AFTER_AGENT: &str = "\
Examples:
  Work for a scheduler:
      PROCSTAR_AGENT_TOKEN_FILE=token procstar agent --host scheduler.example.com
  Until there has been no work for ten minutes:
      procstar agent --host scheduler.example.com --wait --wait-timeout 10m
  Also serve clients on this machine:
      procstar agent --host scheduler.example.com --serve
";

/// The text below the options of `upgrade --help`.
pub(super) const AFTER_UPGRADE: &str = "\
Examples:
  After a new version has been installed in place of the running one:
      procstar upgrade
  If several instances are running:
      procstar upgrade 4711

The instance replaces itself by the program on disk. Its processes keep running, and its pid stays.
If the new program cannot take over, the instance continues unchanged, and this command reports why.
";

/// The text below the options of `doctor --help`.
pub(super) const AFTER_DOCTOR: &str = "\
Examples:
  procstar doctor
  procstar doctor -o json | jq '.checks[] | select(.level != \"ok\")'
  procstar doctor --config /srv/procstar.toml
  procstar doctor --security

Each line is the result of a check: a system call that was tried, or a file that was read.
  ok    available
  note  missing, but needed only by some specs; or worth knowing
  warn  restricted, or for fewer processes
  fail  procstar cannot work

With --security, `warn` and `fail` are findings: another user or machine has more access than it should.

Exit codes:
  0  no `fail`; with --security, no finding
  1  a `fail`; with --security, a finding
  2  invalid usage
";

/// The text below the options of `completions --help`.
pub(super) const AFTER_COMPLETIONS: &str = "\
Examples:
  procstar completions bash > ~/.local/share/bash-completion/completions/procstar
  procstar completions zsh > ~/.zfunc/_procstar
  procstar completions fish > ~/.config/fish/completions/procstar.fish
";

/// The text below the options of `man --help`.
pub(super) const AFTER_MAN: &str = "\
Examples:
  procstar man | man -l -
  procstar man run | man -l -
  procstar man --dir ~/.local/share/man/man1
";
