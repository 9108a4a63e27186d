"""Cases for a unit of systemd whose processes are killed. Runs as root within tests/beds/nsboot.

    python3 units.py PROCSTAR [UNITTEST ARGUMENTS]

Needs only the standard library. Each process records what it wrote and how it ended; each status and
each byte that procstar reports is compared with that.
"""

import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

PROCSTAR = sys.argv.pop(1)
DEADLINE = 30

# Writes numbered lines until a file says "end" or they are all written; then records their number.
JOB = """
n=0
while [ $n -lt $1 ]; do
    echo "$ID line $n" || exit 99
    echo "$ID error $n" >&2 || exit 99
    n=$((n + 1))
    [ -z "$3" ] || [ ! -e "$RECORDS/$3" ] || break
    sleep 0.05
done
echo $n >"$RECORDS/$ID.new" && mv "$RECORDS/$ID.new" "$RECORDS/$ID"
case $2 in SIG*) kill -${2#SIG} $$ ;; *) exit $2 ;; esac
"""
ENDS = ["0", "7", "101", "SIGKILL", "SIGTERM", "SIGUSR1"]
CAPTURES = [
    {"mode": "memory"},
    {"mode": "tempfile"},
    {"mode": "tempfile", "chunk_times": True},
    {"mode": "tempfile", "compress": "gzip"},
    {"mode": "tempfile", "keep": {"head": "1M"}},
]
UNIT = """
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart={procstar} serve --log-level info
ExecReload={procstar} upgrade $MAINPID
StateDirectory={name}
StandardError=append:{log}
KillMode=process
Restart=on-failure
RestartSec=1
{more}
"""
STORE = "NotifyAccess=main\nFileDescriptorStoreMax=500"


def eventually(check, what):
    """Repeats a check until it returns a value that is true, and returns that."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        try:
            if found := check():
                return found
        except OSError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"not within {DEADLINE} s: {what}")


def systemctl(*args):
    return subprocess.run(["systemctl", *args], check=True, text=True, stdout=subprocess.PIPE).stdout


def is_alive(pid):
    return pathlib.Path(f"/proc/{pid}/stat").exists()


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        try:
            self.sock.connect(self.path)
        except OSError:
            self.sock.close()
            raise


class Unit:
    """A unit that runs procstar."""

    def __init__(self, name, more=STORE):
        self.name = name
        self.state = pathlib.Path("/var/lib") / name / "procstar"
        self.records = pathlib.Path("/opt/records") / name
        self.records.mkdir(parents=True)
        self.log_file = pathlib.Path(f"/opt/{name}.log")
        self.jobs = {}
        text = UNIT.format(procstar=PROCSTAR, name=name, log=self.log_file, more=more)
        pathlib.Path(f"/run/systemd/system/{name}.service").write_text(text, "ascii")
        systemctl("daemon-reload")
        systemctl("start", name)
        self.await_ready()

    def close(self):
        systemctl("stop", self.name)

    def request(self, method, path, body=None):
        connection = Connection(str(self.state / "http.sock"))
        try:
            connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        assert response.status < 300, (response.status, data)
        return data

    def await_ready(self):
        eventually(lambda: self.request("GET", "/readyz"), "the service is ready")

    def show(self, key):
        return systemctl("show", "-P", key, self.name).strip()

    def main(self):
        return int(self.show("MainPID"))

    def worker(self):
        """The pid of the worker, a child of the main process."""
        main = self.main()
        names = subprocess.run(["pgrep", "-P", str(main), "-x", "procstar-worker"], text=True, stdout=subprocess.PIPE)
        return int(names.stdout)

    def log(self):
        return self.log_file.read_text("utf-8")

    def start(self, job, lines, end="0", capture=None, until=""):
        """Starts a job with both outputs captured."""
        capture = {"encoding": "utf-8", **(capture or CAPTURES[0])}
        env = {"vars": {"ID": job, "RECORDS": str(self.records), "PATH": "/usr/bin:/bin"}}
        spec = {
            "argv": ["/bin/sh", "-c", JOB, "sh", str(lines), end, until],
            "env": env,
            "fds": [["stdout", {"capture": capture}], ["stderr", {"capture": capture}]],
        }
        self.request("POST", "/procs", {"specs": {job: spec}})
        self.jobs[job] = end

    def load(self, count, rng):
        """Starts jobs of random length, end and capture."""
        for _ in range(count):
            self.start(f"job{len(self.jobs)}", rng.randint(1, 60), rng.choice(ENDS), rng.choice(CAPTURES))

    def kill(self, *pids):
        """Kills processes at once, and waits until systemd starts the unit again."""
        before = int(self.show("NRestarts"))
        for pid in pids:
            # The worker of a killed main process ends itself, perhaps before its turn.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return lambda: self.await_restart(before)

    def await_restart(self, before):
        eventually(lambda: int(self.show("NRestarts")) == before + 1, "the unit is started again")
        self.await_ready()

    def result(self, job):
        return json.loads(self.request("GET", f"/procs/{job}"))["data"]["procs"][job]

    def ended(self, job):
        """The final result of a job."""

        def final():
            result = self.result(job)
            return result["state"] != "running" and result

        return eventually(final, f"{job} ends")

    def output(self, job, fd):
        return self.request("GET", f"/procs/{job}/output/{fd}/data").decode()

    def wrong(self, jobs=None):
        """The jobs whose result differs from what they recorded, each with the reason."""
        found = {}
        for job in jobs or self.jobs:
            result, end = self.ended(job), self.jobs[job]
            if result["reason"] == "lost":
                found[job] = "lost"
                continue
            lines = int(eventually((self.records / job).read_text, f"{job} has written its record"))
            code = None if end.startswith("SIG") else int(end)
            signum = getattr(signal, end) if code is None else None
            status = result["status"]
            if (status["exit_code"], status["signum"]) != (code, signum):
                found[job] = status
            for fd, word in ("stdout", "line"), ("stderr", "error"):
                if self.output(job, fd) != "".join(f"{job} {word} {n}\n" for n in range(lines)):
                    found[job] = f"{fd} differs"
        return found


class Cases(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        busy = ["/bin/sh", "-c", "while :; do :; done"]
        cls.busy = [subprocess.Popen(busy) for _ in range(2)]

    @classmethod
    def tearDownClass(cls):
        for process in cls.busy:
            process.kill()
            process.wait()

    def unit(self, name, more=STORE):
        unit = Unit(name, more)
        self.addCleanup(unit.close)
        self.addCleanup(lambda: sys.stderr.write(unit.log()))
        return unit

    def await_empty_store(self, unit):
        eventually(lambda: unit.show("NFileDescriptorStore") == "0", "the store is empty")

    def test_with_a_store_nothing_is_lost_when_both_are_killed(self):
        unit, rng = self.unit("both"), random.Random(16)
        for _ in range(4):
            unit.load(15, rng)
            time.sleep(rng.uniform(0, 1))
            unit.kill(unit.main(), unit.worker())()
        self.assertEqual(unit.wrong(), {})
        print(f"both killed 4 times, with a store: {len(unit.jobs)} processes, 0 lost, 0 wrong")
        self.await_empty_store(unit)
        self.assertNotIn("store", unit.log())

    def test_without_a_store_exactly_those_are_lost_that_end_meanwhile(self):
        unit = self.unit("without", "")
        capture = {"mode": "tempfile"}
        meanwhile, later = [f"early{n}" for n in range(8)], [f"late{n}" for n in range(8)]
        for job in meanwhile:
            unit.start(job, 100_000, "7", capture, until="go")
        for job in later:
            unit.start(job, 100_000, "9", capture, until="later")
        pids = [unit.result(job)["pid"] for job in meanwhile]
        restarted = unit.kill(unit.main(), unit.worker())
        (unit.records / "go").touch()
        eventually(lambda: not any(map(is_alive, pids)), "the jobs have ended")
        self.assertEqual(unit.main(), 0, "the unit was started too early for this test")
        restarted()
        (unit.records / "later").touch()
        self.assertEqual(unit.wrong(), dict.fromkeys(meanwhile, "lost"))
        print(f"both killed, without a store: of {len(unit.jobs)} processes, the {len(meanwhile)} are lost that ended meanwhile")
        self.assertIn("set FileDescriptorStoreMax= and NotifyAccess=main in the unit", unit.log())

    def test_with_a_store_those_that_end_meanwhile_are_exact(self):
        unit = self.unit("meanwhile")
        for n, capture in enumerate(CAPTURES):
            unit.start(f"job{n}", 100_000, "7", capture, until="go")
        pids = [unit.result(job)["pid"] for job in unit.jobs]
        restarted = unit.kill(unit.main(), unit.worker())
        (unit.records / "go").touch()
        eventually(lambda: not any(map(is_alive, pids)), "the jobs have ended")
        self.assertEqual(unit.main(), 0, "the unit was started too early for this test")
        restarted()
        self.assertEqual(unit.wrong(), {})
        self.await_empty_store(unit)

    def test_a_worker_leaves_a_killed_main_process_to_the_unit(self):
        unit, rng = self.unit("main"), random.Random(17)
        unit.load(20, rng)
        main, worker = unit.main(), unit.worker()
        unit.kill(main)()
        self.assertFalse(is_alive(worker))
        self.assertNotIn(unit.main(), (main, worker))
        self.assertEqual(unit.wrong(), {})
        self.assertIn("the service manager restarts the unit", unit.log())
        self.assertNotIn("killed, becoming the keeper", unit.log())
        print("main process killed: the unit is started again, 20 processes, 0 lost, 0 wrong")
        self.await_empty_store(unit)

    def test_a_reload_upgrades_in_place_and_the_store_goes_on(self):
        unit, rng = self.unit("reload"), random.Random(18)
        main = unit.main()
        for _ in range(3):
            unit.load(8, rng)
            systemctl("reload", unit.name)
        self.assertEqual((unit.main(), unit.show("NRestarts")), (main, "0"))
        unit.load(8, rng)
        unit.kill(unit.main(), unit.worker())()
        self.assertEqual(unit.wrong(), {})
        print(f"3 reloads, then both killed: {len(unit.jobs)} processes, 0 lost, 0 wrong")
        self.await_empty_store(unit)

    def test_no_process_inherits_stored_descriptors(self):
        unit = self.unit("leak")
        unit.start("held", 100_000, "0", until="go")
        unit.kill(unit.main(), unit.worker())()
        script = "ls -l /proc/self/fd; env"
        spec = {"argv": ["/bin/sh", "-c", script], "fds": [["stdout", {"capture": {"encoding": "utf-8"}}]]}
        unit.request("POST", "/procs", {"specs": {"look": spec}})
        self.assertEqual(unit.ended("look")["status"]["exit_code"], 0)
        output = unit.output("look", "stdout")
        self.assertEqual(re.findall(r"(\d+) -> ", output), ["0", "1", "2", "3"], output)
        self.assertNotIn("LISTEN_", output)
        # The worker received nothing but by its socket: a single reading end of each pipe.
        (unit.records / "go").touch()
        self.assertEqual(unit.wrong(), {})

    def test_a_full_store_is_reported(self):
        unit = self.unit("full", STORE.replace("500", "4"))
        for n in range(3):
            unit.start(f"job{n}", 100_000, "0", until="go")
        eventually(lambda: "raise FileDescriptorStoreMax= and LimitNOFILE= in the unit" in unit.log(), "the log says so")
        (unit.records / "go").touch()
        self.assertEqual(unit.wrong(), {})
        self.assertEqual(unit.log().count("raise FileDescriptorStoreMax="), 1)
        self.await_empty_store(unit)


if __name__ == "__main__":
    unittest.main(verbosity=2)
