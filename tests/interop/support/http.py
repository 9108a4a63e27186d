"""A running HTTP service, and plain requests to it."""

import os
import signal
import socket
import subprocess
import tempfile

import httpx
import procstar.http.client

from . import procs
from .oneshot import binary
from .wait import DEADLINE, eventually


def free_port():
    """Returns a port without a listener."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Service:
    """The binary with `--serve`; on exit, it and its processes are killed."""

    def __init__(self, *args, env=None, input=None, prefix=(), program=None, token=None, port=None, **kw):
        self.port = port or free_port()
        self.kw = kw
        self.argv = [*prefix, program or binary(), "--serve", "--serve-port", str(self.port), "--log-level", "info", *map(str, args)]
        self.env = os.environ | (env or {})
        # A service of another user, or in other namespaces, needs a token to trust the tests' user.
        self.headers = {}
        if token is not None:
            self.env["PROCSTAR_HTTP_TOKEN"] = token
            self.headers["Authorization"] = f"Bearer {token}"
        self.input = input
        self.stderr = tempfile.TemporaryFile()

    def __enter__(self):
        self.proc = subprocess.Popen(
            self.argv, env=self.env, stdout=subprocess.PIPE, stderr=self.stderr,
            stdin=subprocess.DEVNULL if self.input is None else subprocess.PIPE, **self.kw,
        )  # fmt: skip
        if self.input is not None:
            self.proc.stdin.write(self.input)
            self.proc.stdin.close()
        eventually(self._listens, "the service listens")
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, headers=self.headers)
        return self

    def __exit__(self, *_):
        if hasattr(self, "http"):
            self.http.close()
        pids = list(procs.descendants(self.proc.pid)) if self.proc.poll() is None else []
        for pid in [self.proc.pid, *pids] if self.proc.poll() is None else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.proc.wait(10)
        self.proc.stdout.close()
        self.stderr.seek(0)
        print(self.stderr.read().decode(errors="replace")[-20_000:])
        self.stderr.close()

    def _listens(self):
        assert self.proc.poll() is None, f"the service ended: {self.proc.returncode}"
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self):
        """Standard error so far."""
        self.stderr.flush()
        return os.pread(self.stderr.fileno(), 1 << 24, 0).decode(errors="replace")

    def post(self, specs, **kw):
        """Starts processes; the status must be 200."""
        rsp = self.http.post("/procs", json={"specs": specs}, **kw)
        assert rsp.status_code == 200, rsp.text
        return rsp

    def get(self, path):
        """Returns the `data` of a successful response."""
        rsp = self.http.get(path)
        assert rsp.status_code == 200, rsp.text
        assert rsp.headers["content-type"] == "application/json"
        return rsp.json()["data"]

    def result(self, proc_id, *, ended=True):
        """Waits for the end of a process, and returns its result."""
        def look():
            res = self.get(f"/procs/{proc_id}")["procs"]
            (res,) = res.values()
            return res if not ended or res["state"] != "running" else None

        return eventually(look, f"end of {proc_id}")

    def client(self):
        """The blocking client of the Python package."""
        return procstar.http.client.Client(("127.0.0.1", self.port))


def check_error(rsp, status):
    """Asserts the shape of an error body, and returns its text."""
    assert rsp.status_code == status, (rsp.status_code, rsp.text)
    assert rsp.headers["content-type"] == "application/json"
    body = rsp.json()
    assert set(body) == {"errors"}
    assert body["errors"]
    for error in body["errors"]:
        assert error["status"] == str(status)
        assert isinstance(error["detail"], str) and error["detail"]
    return body["errors"][0]["detail"]


def steady(look, *, deadline=DEADLINE):
    """Calls `look` until no connection is lost; a connection to a worker that has just died is
    lost."""
    def tried():
        try:
            return [look()]
        except httpx.TransportError:
            return None

    return eventually(tried, "an answer", deadline=deadline)[0]
