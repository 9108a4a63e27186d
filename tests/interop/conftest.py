"""Fixtures: a clean environment, and no process left behind after a test."""

import contextlib
import os
from pathlib import Path
import subprocess
import tempfile

import pytest

from support import procs
from support.agent import Agent, RawServer
from support.browser import Browser
from support.http import Service
from support.wait import aeventually, eventually


def pytest_configure(config):
    """Checks the binary once, and makes this process the parent of orphans."""
    path = os.environ.get("PROCSTAR")
    if path is None or not os.access(path, os.X_OK):
        raise pytest.UsageError("PROCSTAR must name the binary under test; tests/interop/run sets it")
    os.environ["PROCSTAR"] = str(Path(path).resolve())
    # Settings of the caller's shell must not reach the agents under test.
    for name in [n for n in os.environ if n.startswith("PROCSTAR_")]:
        del os.environ[name]
    procs.become_subreaper()


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Makes commands find only instances of this test."""
    with tempfile.TemporaryDirectory(prefix="run-") as path:
        monkeypatch.setenv("PROCSTAR_RUN_RUNTIME_DIR", path)
        yield


@pytest.fixture(autouse=True)
def nobody_left():
    """Fails a test that leaves an agent or one of its processes behind."""
    before = set(procs.descendants())
    yield

    def left():
        return {p: c for p, c in procs.descendants().items() if p not in before}

    with contextlib.suppress(AssertionError):
        # Killed processes take a moment to disappear.
        eventually(lambda: not left(), "end of all processes", deadline=3)
    leftover = left()
    procs.kill_all(leftover)
    procs.reap_orphans(keep=before)
    assert not leftover, f"left over: {leftover}"


@pytest.fixture
async def raw():
    """Starts bare schedulers and agents connected to them; ends all of them."""
    async with contextlib.AsyncExitStack() as stack:

        class Raw:
            """Makes schedulers and agents of a test."""

            async def server(self, **kw):
                """A scheduler that records all messages."""
                return await stack.enter_async_context(RawServer(**kw))

            async def agent(self, server, *args, **kw):
                """An agent that connects to `server`."""
                return await stack.enter_async_context(Agent(server.port, *args, **kw))

            async def pair(self, *args, **kw):
                """A scheduler, an agent, and the connection between them."""
                server = await self.server()
                agent = await self.agent(server, *args, **kw)
                return server, agent, await server.connection()

        yield Raw()


@pytest.fixture
async def assembly():
    """The Python package's own assembly of servers and agents, with one agent in the group
    `default`."""
    from procstar.testing.agent import Assembly

    async with Assembly.start() as asm:
        yield asm
        for proc in list(asm.server.processes.values()):
            # Stopping an instance kills only the agent, so its processes are ended first.
            with contextlib.suppress(Exception):
                await proc.send_signal(9)
        await _no_children(asm)


async def _no_children(asm):
    pids = [p.pid for p in asm.conn_procs.values() if p.returncode is None]
    with contextlib.suppress(AssertionError):
        await aeventually(lambda: not any(procs.descendants(p) for p in pids), "the end of all", deadline=3)


@pytest.fixture
def service():
    """Starts HTTP services; ends them and their processes."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kw: stack.enter_context(Service(*args, **kw))


@pytest.fixture(scope="session")
def random_file(tmp_path_factory):
    """A file of 100 MB in which the bytes at each offset differ from those at any other."""
    path = tmp_path_factory.mktemp("data") / "random"
    with open(path, "wb") as out:
        subprocess.run(["/usr/bin/head", "-c", "100000000", "/dev/urandom"], stdout=out, check=True)
    return path


@pytest.fixture
def browser():
    """Starts browsers; ends them. An error that a page reports fails the test."""
    stack = []

    def start(*args):
        browser = Browser(*args)
        browser.__enter__()
        stack.append(browser)
        return browser

    yield start
    for one in stack:
        one.__exit__()
