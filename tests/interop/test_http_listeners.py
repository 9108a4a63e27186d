"""Listeners: no other user can take a port or starve clients, and a missing address is reported.

Tests with another user need root.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest

from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH
from support.agent import Agent, RawServer
from support.http import Service, free_port, steady
from support.oneshot import binary
from support.replaceable import Replaceable
from support.specs import capture, sh
from support.survival import worker_pid, kill
from support.wait import DEADLINE, eventually

MALLORY = 65001
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")

# Takes a port on both loopback addresses once it is free, and prints that.
SQUAT = """
import socket, sys
port = int(sys.argv[1])
print("ready", flush=True)
held = []
while len(held) < 2:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if family in [sock.family for sock in held]:
            continue
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
            sock.listen()
        except OSError:
            sock.close()
        else:
            held.append(sock)
            print("taken", address, flush=True)
sys.stdin.read()
"""

# Opens connections and sends nothing.
FLOOD = """
import resource, socket, sys
port, count = map(int, sys.argv[1:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for _ in range(count):
    sock = socket.socket()
    sock.settimeout(1)
    try:
        sock.connect(("127.0.0.1", port))
    except OSError:
        pass
    kept.append(sock)
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def as_mallory(script, *args):
    """A Python script that another user runs; killed on exit."""
    proc = subprocess.Popen(
        ["/usr/bin/python3", "-c", script, *map(str, args)], user=MALLORY, group=MALLORY, extra_groups=[], cwd="/",
        env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield proc
    finally:
        proc.kill()
        proc.wait()
        proc.stdin.close()
        proc.stdout.close()


def over_unix(path):
    """A client of a Unix socket."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=DEADLINE)


def at_fixed_port(directory, **kw):
    """A service of a copy of the program with its settings in a file, and its Unix socket."""
    service = Replaceable(directory, **kw)
    at = service.argv.index("--serve-port")
    del service.argv[at : at + 2]
    sock = directory / "http.sock"
    service.env["PROCSTAR_HTTP_SOCKET"] = str(sock)
    service.config.write_text(f"[http]\nport = {service.port}\n")
    return service, sock


def listeners(http):
    """Errors of the listeners by address, from the status."""
    agent = http.get("/status").json()["data"]["status"]
    return {one["address"]: one["error"] for one in agent["listeners"]}


@needs_root
def test_other_users_cannot_take_the_port(tmp_path):
    """During upgrades and crashes, another user tries to bind it in a loop."""
    service, sock = at_fixed_port(tmp_path)
    with service, as_mallory(SQUAT, service.port) as mallory:
        assert mallory.stdout.readline() == "ready\n"
        for _ in range(3):
            done = service.upgrade()
            assert done.returncode == 0, done
            before = worker_pid(service.proc.pid)
            kill(before, signal.SIGKILL)
            eventually(lambda: worker_pid(service.proc.pid) not in (None, before), "another worker")
            assert steady(lambda: service.http.get("/procs").status_code) == 200
        mallory.kill()
        assert mallory.stdout.read() == ""
        with over_unix(sock) as http:
            assert set(listeners(http).values()) == {None}


def test_connections_wait_for_the_next_worker(tmp_path):
    """No worker can start for a while; TCP and Unix socket."""
    service, sock = at_fixed_port(tmp_path)
    with service:
        good = service.config.read_text()
        service.config.write_text("[http")
        before = worker_pid(service.proc.pid)
        kill(before, signal.SIGKILL)
        eventually(lambda: "starting it again" in service.log(), "the keeper has noticed")
        waiting = []
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", service.port)),
            (socket.AF_INET6, ("::1", service.port)),
            (socket.AF_UNIX, str(sock)),
        ):
            client = socket.socket(family)
            client.settimeout(DEADLINE)
            client.connect(address)
            client.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            waiting.append(client)
        service.config.write_text(good)
        for client in waiting:
            assert client.makefile("rb").readline().startswith(b"HTTP/1.0 200"), client
            client.close()


def test_upgrades_refuse_no_connection(tmp_path):
    """Only an established connection may be closed."""
    service, sock = at_fixed_port(tmp_path)
    with service:
        refused, made, stop = [], [0, 0], threading.Event()

        def knock(at, family, address):
            while not stop.is_set():
                with socket.socket(family) as client:
                    try:
                        client.connect(address)
                        made[at] += 1
                    except OSError as err:
                        refused.append(err)

        threads = [
            threading.Thread(target=knock, args=(0, socket.AF_INET, ("127.0.0.1", service.port))),
            threading.Thread(target=knock, args=(1, socket.AF_UNIX, str(sock))),
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                so_far = list(made)
                done = service.upgrade()
                assert done.returncode == 0, done
                eventually(lambda: all(now > then for now, then in zip(made, so_far)), "more connections")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not refused, refused[:3]


def test_a_changed_port_is_bound_before_the_old_one_is_released(tmp_path):
    """At an upgrade; the Unix socket is not interrupted."""
    service, sock = at_fixed_port(tmp_path)
    with service:
        old, new = service.port, free_port()
        inode = sock.stat().st_ino
        service.config.write_text(f"[http]\nport = {new}\n")
        done = service.upgrade()
        assert done.returncode == 0, done
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", new)) == 0
        with socket.socket() as client:
            eventually(lambda: client.connect_ex(("127.0.0.1", old)) != 0, "the old port is free")
        assert sock.stat().st_ino == inode
        with over_unix(sock) as http:
            assert set(listeners(http)) >= {f"127.0.0.1:{new}", str(sock)}


# -- floods


@needs_root
def test_idle_connections_of_others_do_not_starve_the_unix_socket(tmp_path):
    """Connections of others occupy every slot of TCP."""
    sock = tmp_path / "http.sock"
    env = {
        "PROCSTAR_HTTP_SOCKET": str(sock), "PROCSTAR_HTTP_MAX_CONNECTIONS": "8", "PROCSTAR_HTTP_HEADER_TIMEOUT": "1000",
        "PROCSTAR_HTTP_UNAUTHENTICATED_TIMEOUT": "1000",
    }  # fmt: skip
    with Service(env=env) as service, as_mallory(FLOOD, service.port, 40) as mallory:
        assert mallory.stdout.readline() == "open\n"
        for _ in range(4):
            with over_unix(sock) as http:
                assert http.get("/procs").status_code == 200
        # Other TCP connections of this user work, too.
        assert service.http.get("/procs").status_code == 200


@needs_root
def test_idle_tls_connections_are_limited(tmp_path):
    """2,500 anonymous connections: the owner is served, the others are counted and rarely
    logged."""
    sock, key = tmp_path / "http.sock", tmp_path / "key.pem"
    shutil.copyfile(TLS_KEY_PATH, key)
    key.chmod(0o600)
    env = {
        "PROCSTAR_HTTP_SOCKET": str(sock),
        "PROCSTAR_HTTP_TLS_CERT": str(TLS_CERT_PATH), "PROCSTAR_HTTP_TLS_KEY": str(key),
        "PROCSTAR_HTTP_HANDSHAKE_TIMEOUT": "2",
    }  # fmt: skip

    def figures(http):
        lines = http.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    with Service(env=env) as service, as_mallory(FLOOD, service.port, 2500) as mallory:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        own = httpx.Client(base_url=f"https://127.0.0.1:{service.port}", verify=context, timeout=DEADLINE)
        with over_unix(sock) as http, own:
            for _ in range(20):
                assert http.get("/procs").status_code == 200
            assert mallory.stdout.readline() == "open\n"
            assert own.get("/procs").status_code == 200
            found = eventually(
                lambda: (now := figures(http)).get('procstar_http_unauthenticated_refused_total{limit="source"}', 0) >= 2400 and now,
                "connections are refused",
            )
            assert found["procstar_http_unauthenticated_connections"] <= 16
            # The accepted connections time out.
            eventually(
                lambda: (now := figures(http))["procstar_http_unauthenticated_connections"] == 0
                and now["procstar_http_unauthenticated_expired_total"] >= 1,
                "silent connections are closed",
            )
        lines = [line for line in service.log().splitlines() if "closing connections of peers" in line]
        assert 1 <= len(lines) <= 13, lines
        assert f"user ID {MALLORY}" in lines[0]


# -- missing addresses


def test_a_missed_port_is_reported_and_retried(tmp_path):
    """The port is taken between check and start: the upgrade fails with a message, and all other
    functions work."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service, sock = at_fixed_port(tmp_path)
        with service:
            service.post({"a": sh("exec sleep 1000")})
            script = f"""#!/bin/sh
if [ -z "$PROCSTAR_KEEPER_CHECK" ]; then printf '[http]\\nport = {port}\\n' > {service.config}; fi
exec {service.good} "$@"
"""
            service.replace(script.encode())
            done = service.upgrade()
            assert done.returncode == 1, done
            assert f"failed to listen on 127.0.0.1:{port}: Address already in use" in done.stderr, done
            assert "serves everything else and tries again" in done.stderr, done
            # Another upgrade with the same configuration is not refused: no listener would be lost.
            # It does not succeed either.
            assert service.upgrade().returncode == 1
            with over_unix(sock) as http:
                found = listeners(http)
                assert found[str(sock)] is None and "Address already in use" in found[f"127.0.0.1:{port}"], found
                assert http.get("/procs/a").json()["data"]["procs"]["a"]["state"] == "running"
                doctor = lambda: subprocess.run(
                    [service.good, "doctor", "-o", "json"], env=service.env, capture_output=True, text=True, timeout=60
                )
                check = {check["name"]: check for check in json.loads(doctor().stdout)["checks"]}["listeners"]
                assert check["level"] == "warn" and f"127.0.0.1:{port}" in check["found"], check
                taken.close()
                eventually(lambda: set(listeners(http).values()) == {None}, "it listens at last")
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as http:
                assert http.get("/procs/a").status_code == 200
            assert service.upgrade().returncode == 0


async def test_an_agent_starts_without_its_port():
    """The connection to the scheduler works."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with RawServer() as server, Agent(server.port, "--serve", "--serve-port", port) as agent:
            wire = await server.connection()
            assert wire.register["type"] == "Register"
            await agent.logged(f"failed to listen on 127.0.0.1:{port}: Address already in use")


def test_a_service_without_its_port_fails_to_start():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        argv = [binary(), "--serve", "--serve-port", str(taken.getsockname()[1])]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "failed to listen on 127.0.0.1:" in done.stderr, done


# -- socket activation


class Activated:
    """The program, started by a small service manager of this test with listeners of this test."""

    def __init__(self, sockets, *args, env=None, names="web:api"):
        # Moves the listeners to descriptors from 3 on, and executes the program with the announced
        # pid.
        script = (
            "import os, sys\n"
            "fds = [os.dup(int(fd)) for fd in sys.argv[1].split(',')]\n"
            "moved = [__import__('fcntl').fcntl(fd, 0, 100) for fd in fds]\n"
            "[os.dup2(fd, 3 + i) for i, fd in enumerate(moved)]\n"
            f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES={names!r})\n"
            "os.closerange(3 + len(moved), 1000)\n"
            "os.execv(sys.argv[2], sys.argv[2:])\n"
        )
        fds = [sock.fileno() for sock in sockets]
        argv = [sys.executable, "-c", script, ",".join(map(str, fds)), binary(), *map(str, args)]
        self.proc = subprocess.Popen(
            argv, pass_fds=fds, env=os.environ | (env or {}), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.send_signal(signal.SIGTERM)
        print(self.proc.communicate(timeout=60)[1])


def test_listeners_of_a_service_manager_are_used(tmp_path):
    """Early clients are served, also after a crash and an upgrade; processes do not see the
    variables."""
    path = tmp_path / "activated.sock"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        port = tcp.getsockname()[1]
        early = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        early.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        # The configured port, which is another one, has no listener.
        configured = free_port()
        with Activated((tcp, unix), "--serve", "--serve-port", configured, "--log-level", "info") as service:
            assert early.makefile("rb").readline().startswith(b"HTTP/1.0 200")
            early.close()
            with over_unix(path) as http:
                assert set(listeners(http)) == {f"127.0.0.1:{port}", str(path)}
                specs = {"specs": {"a": sh("env | grep LISTEN_; exit 3", ("stdout", capture("memory")))}}
                assert http.post("/procs", json=specs).status_code == 200
                ended = lambda: (res := http.get("/procs/a").json()["data"]["procs"]["a"])["state"] != "running" and res
                assert eventually(ended, "the end")["captures"]["stdout"]["length"] == 0
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", configured)) != 0
            before = worker_pid(service.proc.pid)
            kill(before, signal.SIGKILL)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as http:
                assert steady(lambda: http.get("/procs/a").status_code) == 200
            done = subprocess.run([binary(), "upgrade", str(service.proc.pid)], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as http, over_unix(path) as other:
                assert http.get("/procs/a").status_code == other.get("/procs/a").status_code == 200
        # The service manager owns the listeners, and continues to listen.
        assert path.exists()
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()


def test_an_open_listener_of_a_service_manager_needs_tls():
    """The same rule applies to a configured address."""
    with socket.create_server(("0.0.0.0", 0)) as tcp:
        with Activated((tcp,), "--serve") as service:
            _, err = service.proc.communicate(timeout=60)
    assert service.proc.returncode == 2 and "refusing to serve on 0.0.0.0" in err, err


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_systemd_socket_activate_works(tmp_path):
    """The first connection starts the program."""
    path = tmp_path / "http.sock"
    argv = ["systemd-socket-activate", "-l", str(path), "--fdname=api", binary(), "--serve", "--serve-port", "0"]
    env = [f"-E{name}={os.environ[name]}" for name in ("PROCSTAR_RUN_RUNTIME_DIR", "TMPDIR") if name in os.environ]
    proc = subprocess.Popen([*argv[:1], *env, *argv[1:]], stdin=subprocess.DEVNULL)
    try:
        eventually(path.exists, "the socket")
        with over_unix(path) as http:
            assert http.get("/healthz").status_code == 200
            assert str(path) in listeners(http)
    finally:
        proc.terminate()
        assert proc.wait(60) == 0
