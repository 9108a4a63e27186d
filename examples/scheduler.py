#!/usr/bin/env python3
"""
A minimal scheduler: waits for a procstar agent, runs one command on it, and prints the result.

    pip install procstar==1.1.0         # needs Python 3.13
    export PROCSTAR_AGENT_TOKEN=$(openssl rand -base64 24)
    PROCSTAR_AGENT_CERT=server.crt PROCSTAR_AGENT_KEY=server.key python3 examples/scheduler.py -- /usr/bin/echo hello &
    PROCSTAR_AGENT_CA=server.crt procstar agent --agent-host localhost --wait

It listens on PROCSTAR_AGENT_HOST (all interfaces) and PROCSTAR_AGENT_PORT (59789).
"""

import argparse
import asyncio
import sys
import uuid

from procstar.agent.server import Server


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--group", default="default", help="group of the agent (default: default)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for an agent")
    parser.add_argument("argv", nargs="+", help="command, after --")
    return parser.parse_args()


async def run(server, args):
    """Runs one process on an agent of the group, and returns its final result."""
    proc_id = str(uuid.uuid4())
    spec = {
        "argv": args.argv,
        "fds": [
            ["stdin", {"null": {}}],
            ["stdout", {"capture": {"mode": "tempfile", "encoding": "utf-8"}}],
            ["stderr", {"dup": {"fd": 1}}],
        ],
    }
    process, result = await server.start(
        proc_id, spec, group_id=args.group, conn_timeout=args.timeout
    )
    print(f"started {proc_id} on {process.conn_id}: {result.state}", file=sys.stderr)
    # An agent sends two results for each process: one at the start, one at the end.
    while result.state == "running":
        result = await anext(process.updates)
    # The agent keeps the process until it is deleted.
    await process.delete()
    return result


async def main():
    args = parse_args()
    server = Server()
    async with await server.run():
        result = await run(server, args)
    for error in result.errors:
        print(error, file=sys.stderr)
    print(result.fds.stdout.text, end="")
    status = result.status
    return 128 + status.signum if status.signum else status.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
