"""An instance that is killed and lives on: its present keeper and worker, and ways to kill them."""

import os
from pathlib import Path
import random
import signal
import subprocess
import threading
import time

import httpx

from .. import procs
from ..http import free_port
from ..oneshot import binary
from ..survival import kill, worker_pid
from ..wait import eventually

# For a keeper, a worker or an answer on a busy machine.
PATIENCE = 60


class Ended(Exception):
    """No process of the instance lives, although only one was killed, or none answers."""


class Instance:
    """A service with a state directory, which any of its keepers serves."""

    def __init__(self, directory):
        self.state = Path(directory) / "state"
        self.port = free_port()
        self.log = open(Path(directory) / "log", "ab")
        self.launched = []
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PROCSTAR_")}

    def start(self):
        """Starts the program; returns once it answers."""
        argv = [binary(), "--serve", "--serve-port", str(self.port), "--state-dir", str(self.state), "--log-level", "info"]
        began = time.monotonic()
        launched = subprocess.Popen(argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.launched.append(launched)

        def answers():
            assert launched.poll() is None, f"the program does not start: {launched.returncode}; see {self.log.name}"
            status = self.status()
            return status and status["pid"] == launched.pid

        eventually(answers, "the first answer", deadline=PATIENCE)
        return time.monotonic() - began

    def client(self):
        """A client of the service."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE, trust_env=False)

    def status(self):
        """What the instance says of itself, or None if the answer was lost."""
        try:
            with self.client() as client:
                return client.get("/status", timeout=5).json()["data"]["status"]
        except httpx.TransportError:
            return None

    def keeper(self):
        """Pid of the present keeper, or None between two."""
        try:
            pid = int((self.state / "lock").read_text())
            name = Path(f"/proc/{pid}/comm").read_text()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if name != "procstar-worker\n" and procs.is_alive(pid) else None

    def pair(self):
        """Pids of the present keeper and its worker."""
        end = time.monotonic() + PATIENCE
        # No process lives if there is no keeper for so long, and no worker becomes one.
        alone = time.monotonic() + 5
        while time.monotonic() < end:
            keeper = self.keeper()
            if keeper is not None and (worker := worker_pid(keeper)) is not None:
                return keeper, worker
            if keeper is not None:
                alone = time.monotonic() + 5
            elif time.monotonic() > alone:
                raise Ended("no keeper within 5 s")
            time.sleep(0.002)
        raise Ended(f"no worker within {PATIENCE} s")

    def answers_again(self, before, began):
        """Waits for an answer by another pair of processes; returns the seconds since `began`."""
        keeper, worker = before
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status = self.status()
            if status is not None and status["worker_pid"] != worker and status["worker_pid"] is not None:
                return time.monotonic() - began
            if status is None and self.keeper() is None:
                self.pair()
            time.sleep(0.005)
        raise Ended(f"no answer of another worker within {PATIENCE} s")

    def kill_both(self):
        """Kills keeper and worker, which cannot become the keeper; returns once both have ended."""
        keeper, worker = self.pair()
        kill(worker, signal.SIGSTOP)
        kill(keeper, signal.SIGKILL)
        kill(worker, signal.SIGKILL)
        # A worker that the keeper started meanwhile cannot introduce itself.
        eventually(lambda: not procs.is_alive(keeper) and not procs.is_alive(worker), "the end of both", deadline=PATIENCE)

    def end(self):
        """Ends the instance in order; returns the problems."""
        keeper, worker = self.pair()
        kill(keeper, signal.SIGTERM)
        eventually(lambda: not procs.is_alive(keeper) and not procs.is_alive(worker), "the orderly end", deadline=PATIENCE)
        left = sorted({path.name for path in self.state.iterdir()} - {"lock", "journal", "upgraded"})
        return [f"files are left in the state directory: {left}"] if left else []

    def destroy(self):
        """Kills what is left of the instance."""
        end = time.monotonic() + PATIENCE
        while (keeper := self.keeper()) is not None and time.monotonic() < end:
            worker = worker_pid(keeper)
            if worker is not None:
                kill(worker, signal.SIGSTOP)
                kill(worker, signal.SIGKILL)
            kill(keeper, signal.SIGKILL)
            eventually(lambda keeper=keeper: not procs.is_alive(keeper), "the end of the keeper", deadline=PATIENCE)
        self.log.close()


class Reaper:
    """Reaps orphans of the instance, which become children of this subreaper: some at once, some
    up to a second later, because that decides from where a keeper learns an exit status."""

    def __init__(self, instance, seed):
        self.instance = instance
        self.rng = random.Random(seed)
        # Held while nobody of the instance lives.
        self.lock = threading.Lock()
        # Pids that were reaped while nobody lived, with the time.
        self.in_gaps = {}
        self._due = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.02):
            with self.lock:
                now = time.monotonic()
                for pid in self._zombies():
                    if self._due.setdefault(pid, now + self.rng.choice((0, 0, self.rng.uniform(0, 1)))) <= now:
                        self._reap(pid)

    def reap_all(self):
        """Reaps all zombies at a time when nobody lives; the caller holds the lock."""
        for pid in self._zombies():
            self.in_gaps[pid] = time.time()
            self._reap(pid)

    def _reap(self, pid):
        self._due.pop(pid, None)
        os.waitpid(pid, 0)

    def _zombies(self):
        launched = {proc.pid for proc in self.instance.launched if proc.poll() is None}
        found = []
        for task in os.listdir("/proc/self/task"):
            try:
                children = Path(f"/proc/self/task/{task}/children").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found += [int(pid) for pid in children if not procs.is_alive(pid) and int(pid) not in launched]
        return found
