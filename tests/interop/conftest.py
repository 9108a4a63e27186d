"""Fixtures: a clean environment, and after every test nobody left over."""

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
    """Checks the binary once, and makes orphans of agents visible."""
    path = os.environ.get("PROCSTAR")
    if path is None or not os.access(path, os.X_OK):
        raise pytest.UsageError("PROCSTAR must name the binary under test; tests/interop/run sets it")
    os.environ["PROCSTAR"] = str(Path(path).resolve())
    # What the caller's shell has set must not reach the agents under test.
    for name in [n for n in os.environ if n.startswith("PROCSTAR_")]:
        del os.environ[name]
    procs.become_subreaper()


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Has commands find the instances of this test alone."""
    with tempfile.TemporaryDirectory(prefix="run-") as path:
        monkeypatch.setenv("PROCSTAR_RUN_RUNTIME_DIR", path)
        yield


@pytest.fixture(autouse=True)
def nobody_left():
    """Fails a test that leaves a process behind: of the agent's, or an agent."""
    before = set(procs.descendants())
    yield

    def left():
        return {p: c for p, c in procs.descendants().items() if p not in before}

    with contextlib.suppress(AssertionError):
        # Killed processes need a moment to be gone.
        eventually(lambda: not left(), "end of all processes", deadline=3)
    leftover = left()
    procs.kill_all(leftover)
    procs.reap_orphans(keep=before)
    assert not leftover, f"left over: {leftover}"


@pytest.fixture
async def raw():
    """Starts raw servers and agents connected to them; ends all of them."""
    async with contextlib.AsyncExitStack() as stack:

        class Raw:
            """Makes what a test of the bare protocol needs."""

            async def server(self, **kw):
                """A server that records all it gets."""
                return await stack.enter_async_context(RawServer(**kw))

            async def agent(self, server, *args, **kw):
                """An agent that connects to `server`."""
                return await stack.enter_async_context(Agent(server.port, *args, **kw))

            async def pair(self, *args, **kw):
                """A server, an agent, and the connection between them."""
                server = await self.server()
                agent = await self.agent(server, *args, **kw)
                return server, agent, await server.connection()

        yield Raw()


@pytest.fixture
async def assembly():
    """The package's own assembly, one agent in the group `default`."""
    from procstar.testing.agent import Assembly

    async with Assembly.start() as asm:
        yield asm
        for proc in list(asm.server.processes.values()):
            # Stopping an instance kills only the agent: its processes end first.
            with contextlib.suppress(Exception):
                await proc.send_signal(9)
        await _no_children(asm)


async def _no_children(asm):
    pids = [p.pid for p in asm.conn_procs.values() if p.returncode is None]
    with contextlib.suppress(AssertionError):
        await aeventually(lambda: not any(procs.descendants(p) for p in pids), "the end of all", deadline=3)


@pytest.fixture
def service():
    """Starts HTTP services; ends them, and what they run."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kw: stack.enter_context(Service(*args, **kw))


@pytest.fixture(scope="session")
def random_file(tmp_path_factory):
    """A file of 100 MB that no wrong offset reads alike."""
    path = tmp_path_factory.mktemp("data") / "random"
    with open(path, "wb") as out:
        subprocess.run(["/usr/bin/head", "-c", "100000000", "/dev/urandom"], stdout=out, check=True)
    return path


@pytest.fixture
def browser():
    """Starts browsers; ends them. Whatever a page complains of fails the test."""
    stack = []

    def start(*args):
        browser = Browser(*args)
        browser.__enter__()
        stack.append(browser)
        return browser

    yield start
    for one in stack:
        one.__exit__()
