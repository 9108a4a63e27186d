"""The API beyond the contract, by common clients: httpx, schemathesis, other users."""

import json
import os
from pathlib import Path
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import httpx
import pytest

from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH
from support.specs import TRUE, argv, capture, sh
from support.wait import aeventually, eventually

TOKEN = "8ePqYiqbZ4AnXB2hWx8WQg"


def socket_of(log):
    """Path of the Unix socket, from the log."""
    return eventually(lambda: (m := re.search(r"path=(\S+http\.sock)", log())) and m[1], "a socket")


def over(path):
    """A client of a Unix socket."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://localhost", timeout=30)


def check_problem(rsp, status):
    """Asserts the shape of a problem, and returns its detail."""
    assert rsp.status_code == status, rsp.text
    assert rsp.headers["content-type"] == "application/problem+json"
    body = rsp.json()
    assert body["status"] == status and body["title"]
    assert all(error["status"] == str(status) and error["detail"] for error in body["errors"])
    return body["detail"]


def test_the_socket_always_exists(service):
    """Only the owner can connect to it; it is removed at the end of the service."""
    svc = service()
    path = socket_of(svc.log)
    assert os.stat(path).st_mode & 0o777 == 0o600
    with over(path) as http:
        assert http.get("/status").json()["data"]["status"]["socket"] == path
        assert http.post("/procs", json={"specs": {"a": argv(TRUE)}}).status_code == 200
        assert svc.result("a")["state"] == "terminated"
        svc.proc.send_signal(3)
        assert http.delete("/procs/a").status_code == 200
    assert svc.proc.wait(20) == 0
    assert not os.path.exists(path)


def test_the_socket_may_have_a_given_path(service, tmp_path):
    """A killed service may have left a file there."""
    path = tmp_path / "own.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    svc = service(env={"PROCSTAR_HTTP_SOCKET": str(path)})
    eventually(lambda: "http service listening path=" in svc.log(), "the socket")
    with over(str(path)) as http:
        assert http.get("/healthz").text == "ok\n"


@pytest.fixture
def open_dir():
    """A directory that every user can search, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o711)
        yield Path(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_other_users_are_refused_at_the_socket(service, open_dir):
    """The file's mode refuses them, and so do the kernel's peer credentials."""
    path = open_dir / "own.sock"
    svc = service(env={"PROCSTAR_HTTP_SOCKET": str(path)})
    eventually(lambda: "http service listening path=" in svc.log(), "the socket")

    def ask():
        return subprocess.run(
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "curl", "-s", "-w", "%{http_code}",
             "--unix-socket", path, "http://localhost/procs"],
            capture_output=True, timeout=20, cwd="/", check=False, text=True,
        )  # fmt: skip

    assert ask().returncode == 7
    path.chmod(0o666)
    done = ask()
    assert done.stdout.endswith("403") and "user ID 65534" in done.stdout


async def test_the_status_of_an_agent_is_at_its_socket(raw):
    """Without `--serve`; it is ready while registered."""
    server = await raw.server()
    agent = await raw.agent(server, "--group-id", "some group")
    await server.connection()
    line = await agent.logged(r"path=\S+http\.sock")
    path = re.search(r"path=(\S+http\.sock)", line)[1]
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as http:

        async def connection():
            agent = (await http.get("/status")).json()["data"]["status"]
            assert agent["pid"] != agent["worker_pid"]
            return agent["connection"]

        async def until_ready(status):
            async def ready():
                rsp = await http.get("/readyz")
                return rsp if rsp.status_code == status else None

            return await aeventually(ready, f"status {status} of /readyz")

        await until_ready(200)
        link = await connection()
        assert (link["state"], link["group_id"], link["registrations"]) == ("registered", "some group", 1)
        assert link["server"].endswith(f":{server.port}") and link["last_error"] is None
        await server.stop()
        assert "not registered" in check_problem(await until_ready(503), 503)
        assert (await connection())["last_error"]
        assert (await http.get("/healthz")).status_code == 200
        await server.start()
        await until_ready(200)
        assert (await connection())["registrations"] == 2
        metrics = (await http.get("/metrics")).text
        assert "procstar_scheduler_reconnects_total 1\n" in metrics


def test_single_runs_have_no_socket(tmp_path):
    from support.oneshot import procstar

    done = procstar("--print", "--log-level", "info", "-", input=json.dumps({"specs": {"a": argv(TRUE)}}).encode())
    assert done.returncode == 0 and b"http.sock" not in done.stderr


class Tls:
    """A service on all addresses with TLS and a token."""

    # Every user can read the package's key.
    key = Path(tempfile.mkdtemp()) / "key.pem"
    key.touch(mode=0o600)
    key.write_bytes(Path(TLS_KEY_PATH).read_bytes())

    env = {
        "PROCSTAR_HTTP_TLS_CERT": str(TLS_CERT_PATH),
        "PROCSTAR_HTTP_TLS_KEY": str(key),
        "PROCSTAR_HTTP_TOKEN": TOKEN,
    }

    def __init__(self, service):
        self.svc = service("--http-bind", "0.0.0.0", env=self.env)
        self.address = self._own_address()

    @staticmethod
    def _own_address():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            # Sends nothing: this only chooses a route to a documentation address.
            try:
                sock.connect(("192.0.2.1", 9))
            except OSError:
                pytest.skip("this machine has no address but its loopback")
            return sock.getsockname()[0]

    def get(self, **headers):
        """The response to a request over TLS from an address other than the loopback."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with httpx.Client(verify=context, timeout=30) as http:
            return http.get(f"https://{self.address}:{self.svc.port}/procs", headers=headers)


def test_other_machines_need_tls_and_the_token(service):
    """Clients use a name of the certificate."""
    tls = Tls(service)
    good = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}"}
    assert tls.get(**good).json() == {"data": {"procs": {}}}
    for change in (
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": ""},
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
    ):
        rsp = tls.get(**(good | change))
        assert rsp.status_code == 403, change
        assert TOKEN not in rsp.text
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{tls.address}:{tls.svc.port}/procs", headers=good, timeout=10)


def test_output_and_events_are_followed_to_the_end(service, tmp_path):
    svc = service()
    script = f"echo one; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.02; done; echo two"
    with svc.http.stream("GET", "/events") as events:
        lines = events.iter_lines()

        def event():
            while not (line := next(lines)).startswith("data: "):
                pass
            return json.loads(line.removeprefix("data: "))

        assert event()["event"] == "snapshot"
        svc.post({"a": sh(script, ("stdout", capture("tempfile")))})
        assert (ev := event())["event"] == "started" and ev["id"] == "a"
        with svc.http.stream("GET", "/procs/a/output/stdout/follow") as rsp:
            pieces = rsp.iter_raw()
            assert next(pieces) == b"one\n"
            (tmp_path / "go").touch()
            assert b"".join(pieces) == b"two\n"
        assert (ev := event())["event"] == "ended"
        assert ev["result"]["fds"]["stdout"] == {"type": "detached", "length": 8, "encoding": "utf-8"}
        assert svc.http.delete("/procs", params={"state": "terminated"}).json()["data"] == {"proc_ids": ["a"]}
        assert event()["event"] == "deleted"


def test_event_streams_end_with_the_instance(service):
    """They have a last event, and do not delay the end."""
    svc = service()
    with svc.http.stream("GET", "/events") as events:
        lines = events.iter_lines()
        assert any(line.startswith("data: ") for line in lines)
        svc.proc.send_signal(10)
        states = [json.loads(line[6:])["shutdown_state"] for line in lines if line.startswith("data: ")]
    assert states == ["idling", "done"]
    assert svc.proc.wait(20) == 0


async def test_stop_kills_after_the_grace_period(service):
    svc = service()
    svc.post({"a": sh("trap '' TERM; echo ready; while :; do sleep 0.05; done", ("stdout", capture()))})
    eventually(lambda: svc.http.get("/procs/a/output/stdout/data").text == "ready\n", "the trap")
    assert svc.http.post("/procs/a/stop", json={"grace": 0.3}).status_code == 200
    assert svc.result("a")["status"]["signal"] == "SIGKILL"
    assert check_problem(svc.http.post("/procs/a/stop"), 409) == "process has ended: a"


def test_content_encodings_and_ranges_are_exact(service):
    """httpx decodes the responses."""
    svc = service()
    svc.post({"a": sh("seq 100000", ("stdout", capture("tempfile", None)))})
    svc.result("a")
    path, whole = "/procs/a/output/stdout/data", b"".join(b"%d\n" % n for n in range(1, 100_001))
    rsp = svc.http.get(path, headers={"Accept-Encoding": "gzip"})
    assert rsp.headers["content-encoding"] == "gzip" and rsp.content == whole
    rsp = svc.http.get(path, headers={"Accept-Encoding": "identity", "Range": "bytes=100-199"})
    assert rsp.status_code == 206 and rsp.content == whole[100:200]


def test_1000_processes_are_listed_in_pages(service):
    svc = service("--restrict-exe", TRUE)
    svc.post({f"p{n}": argv("/nonexistent") for n in range(1000)})
    seen, cursor = [], None
    while True:
        params = {"limit": 100, "output": "none"} | ({"cursor": cursor} if cursor else {})
        data = svc.http.get("/procs", params=params).json()["data"]
        seen += data["procs"]
        if (cursor := data["next"]) is None:
            break
    assert seen == [f"p{n}" for n in range(1000)]


@pytest.mark.timeout(600)
def test_responses_match_the_openapi_description(service):
    """Schemathesis finds no other response."""
    svc = service("--restrict-exe", TRUE)
    svc.post({"0": argv(TRUE, fds=[["stdout", capture()]])})
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{svc.port}/openapi.json",
         "--phases", "coverage,fuzzing", "--max-examples", "5", "--seed", "1", "--workers", "1", "--no-color",
         # These respond until the client disconnects.
         "--exclude-path-regex", "^/events|/follow$",
         # A schema does not define all valid signals and specs.
         "--exclude-checks", "positive_data_acceptance"],
        capture_output=True, timeout=550, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    assert "Tested: " in done.stdout
    assert svc.http.get("/healthz").status_code == 200
