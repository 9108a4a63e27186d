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
  Ask a running instance; each command has a --help of its own:
      procstar start --id ping -- ping localhost
      procstar ps
      procstar logs -f ping

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
  PROCSTAR_AGENT_TOKEN       what the server asks for at registration
  PROCSTAR_HTTP_TOKEN        lets HTTP requests in that bear it, whoever sends them
  PROCSTAR_AGENT_TOKEN_FILE, PROCSTAR_HTTP_TOKEN_FILE   files that hold the tokens; so may
                             procstar-agent-token, procstar-http-token in $CREDENTIALS_DIRECTORY
  PROCSTAR_SECTION_KEY       any other setting: PROCSTAR_CAPTURE_DIR is capture.dir
";

/// Two ways, where clap would show one that mixes them.
pub(super) const USAGE: &str = "procstar [OPTIONS] [INPUT]
       procstar [OPTIONS] config show [--json]
       procstar validate SPEC [-o text|json]
       procstar schema specs|results
       procstar start|ps|show|logs|wait|stop|kill|rm|prune|events|top [OPTIONS] ...";

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
