"""The command line of `tests/survival`."""

import argparse
import logging
from pathlib import Path
import random
import shutil
import signal
import subprocess
import sys
import tempfile

from .. import procs
from .loop import KINDS, Loop, times

NAMES = {"agent": "worker"} | {kind: kind for kind in KINDS}


def kinds(text):
    """Kinds of kills, separated by commas."""
    unknown = [name for name in text.split(",") if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown kind: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    return list(dict.fromkeys(NAMES[name] for name in text.split(",")))


def parse():
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="tests/survival",
        description="Kills processes of an instance at random, while it runs processes, and compares every status and byte.",
    )
    parser.add_argument("--kill", type=kinds, default="agent,keeper,upgrade", metavar="KINDS",
                        help="kinds of kills, by commas: worker (or agent), keeper, upgrade, both (default: %(default)s)")  # fmt: skip
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="number of kills (default: %(default)s)")
    parser.add_argument("--seconds", type=float, metavar="S", help="kill nothing more after this time (default: no limit)")
    parser.add_argument("--per-second", type=int, default=6, metavar="N", help="processes started each second (default: %(default)s)")
    parser.add_argument("--longest", type=float, default=40, metavar="S", help="longest time of a process (default: %(default)s)")
    parser.add_argument("--busy", type=int, default=2, metavar="N", help="number of busy loops beside it (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat the choices of this seed (default: a new one)")
    return parser.parse_args()


def main():
    """Runs it; returns the exit code."""
    args = parse()
    seed = random.randrange(1 << 32) if args.seed is None else args.seed
    logging.disable(logging.WARNING)
    procs.become_subreaper()
    # Under nohup, the instance would ignore it, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    directory = Path(tempfile.mkdtemp(prefix="procstar-survival-"))
    print(f"seed {seed}, files in {directory}", flush=True)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.busy)]
    try:
        loop = Loop(
            directory, kinds=args.kill, kills=args.kills, per_second=args.per_second, seed=seed, seconds=args.seconds,
            longest=args.longest,
            say=lambda text: print(text, flush=True),
        )  # fmt: skip
        figures = loop.run()
    finally:
        for proc in busy:
            proc.kill()
            proc.wait()
    describe(figures)
    if figures.good:
        shutil.rmtree(directory)
    else:
        print(f"kept for diagnosis: {directory} (log, events, ID.*, state)")
    print(figures.last_line())
    return 0 if figures.good else 1


def describe(figures):
    """Prints what ran, and everything that is lost, broken or wrong."""
    print(f"ends       {', '.join(f'{n} by {end}' for end, n in figures.ends.most_common())}")
    print(f"captures   {', '.join(f'{n} {name}' for name, n in figures.captures.most_common())}; {figures.bytes:,} bytes compared")
    print(f"younger    answers again after the death of a worker of less than a second: {times(figures.answers_young)}")
    print(f"time       {figures.seconds:.0f} s")
    for what, problems in (("cut off", figures.cut), ("lost", figures.lost), ("broken pipe", figures.broken), ("wrong", figures.wrong)):
        for name, text in problems.items():
            print(f"{what}: {name}: {text}")


if __name__ == "__main__":
    sys.exit(main())
