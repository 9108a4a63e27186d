"""The upgrade test: processes end while the program replaces itself, and each status is exact.

`tests/upgrades` runs this module in the suite's environment; `python -m support.upgrades --help`
lists the options.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, field
import signal
import subprocess
import sys
import tempfile
import time

from .http import Service, steady
from .specs import capture, sh
from .wait import eventually

# Exit code of all processes.
STATUS = 7
# Time for an answer on a machine that is busy with upgrades.
PATIENCE = 120


@dataclass
class Figures:
    """Statistics of a run."""

    processes: int = 0
    signals: int = 0
    upgrades: int = 0
    seconds: float = 0.0
    # Number of processes by end: an exit code, or the errors of the result.
    ends: Counter = field(default_factory=Counter)
    # Number of captures that differ from the output.
    wrong_output: int = 0

    @property
    def good(self):
        """Whether every result is exact."""
        return self.processes > 0 and self.ends == {STATUS: self.processes} and not self.wrong_output

    def __str__(self):
        ends = ", ".join(f"{n} by {end!r}" for end, n in self.ends.most_common())
        return "\n".join([
            f"processes   {self.processes}: {ends}",
            f"lost        {sum(n for end, n in self.ends.items() if 'lost' in str(end))}",
            f"wrong output {self.wrong_output}",
            f"upgrades    {self.upgrades} of {self.signals} requested",
            f"time        {self.seconds:.1f} s",
        ])  # fmt: skip


def start(service, prefix, count):
    """Starts processes that end within a second; each writes its ID to a capture of another
    kind."""
    specs = {}
    for n in range(count):
        mode = ("tempfile", "memory")[n % 2]
        script = f"echo begin; sleep 0.{n % 10}; echo end; exit {STATUS}"
        specs[f"{prefix}-{n}"] = sh(script, ("stdin", {"null": {}}), ("stdout", capture(mode)))
    rsp = steady(lambda: service.http.post("/procs", json={"specs": specs}, timeout=10), deadline=PATIENCE)
    # The previous attempt may have been accepted, although its answer was lost.
    assert rsp.status_code == 200 or "already in use" in rsp.text, rsp.text
    return list(specs)


def end_of(service, proc_id):
    """Returns the end of a process, and whether its output is complete."""
    def look():
        rsp = service.http.get(f"/procs/{proc_id}", params={"wait": 30, "output": "inline"}, timeout=60)
        assert rsp.status_code in (200, 404), rsp.text
        if rsp.status_code == 404:
            return {"state": "unknown", "errors": ["unknown process"]}
        (res,) = rsp.json()["data"]["procs"].values()
        return res

    def ended():
        res = steady(look, deadline=PATIENCE)
        return res if res["state"] != "running" else None

    res = eventually(ended, f"the end of {proc_id}", deadline=60)
    if res["state"] == "terminated" or (res.get("status") or {}).get("exit_code") == STATUS:
        return res["status"]["exit_code"], res["fds"]["stdout"].get("text") == "begin\nend\n"
    return "; ".join(res["errors"]), True


def run(*, seconds, per_second=40, pause=0.3, args=()):
    """Starts and upgrades for so many seconds; returns the statistics after the end of all
    processes."""
    figures = Figures()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as state, Service("--state-dir", state, *args) as service:
        ids, rounds = [], 0
        next_start = next_upgrade = began
        while (now := time.monotonic()) < began + seconds:
            if now >= next_upgrade:
                service.proc.send_signal(signal.SIGHUP)
                figures.signals += 1
                next_upgrade = now + pause
            if now >= next_start:
                ids += start(service, f"r{rounds}", per_second)
                rounds += 1
                next_start += 1
            time.sleep(max(0, min(next_start, next_upgrade) - time.monotonic()))
        for proc_id in ids:
            end, whole = end_of(service, proc_id)
            figures.ends[end] += 1
            figures.wrong_output += not whole
        figures.processes = len(ids)
        figures.upgrades = service.log().count("upgraded path=")
    figures.seconds = time.monotonic() - began
    return figures


def main():
    """Runs the test alone, beside processes that keep the processors busy."""
    parser = argparse.ArgumentParser(prog="tests/upgrades", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="seconds of starts (default: 60)")
    parser.add_argument("--per-second", type=int, default=40, help="starts each second (default: 40)")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two upgrades (default: 0.3)")
    parser.add_argument("--busy", type=int, default=2, help="number of busy loops (default: 2)")
    args = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.busy)]
    try:
        figures = run(seconds=args.seconds, per_second=args.per_second, pause=args.pause)
    finally:
        for proc in busy:
            proc.kill()
            proc.wait()
    print(figures)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
