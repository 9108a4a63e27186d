"""A bare scheduler for the agent protocol that records every message, and agents that connect to
it."""

import asyncio
import contextlib
import os
import re
import signal
import ssl

import msgpack
import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed

from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH

from . import procs
from .oneshot import binary
from .wait import DEADLINE, aeventually, within

TOKEN = "a token of this suite"


class Closed(Exception):
    """The agent closed the connection while a message was awaited."""


class Wire:
    """One connection of one agent: `register` is its first message."""

    def __init__(self, ws, register):
        self.ws = ws
        self.register = register
        # All decoded messages after `register`, in order.
        self.messages = []
        # Whether messages that are nested too deeply for Python are ignored.
        self.lenient = False
        self._queue = asyncio.Queue()
        self.closed = asyncio.Event()

    async def pump(self):
        """Records messages until the connection is closed."""
        try:
            async for data in self.ws:
                assert isinstance(data, bytes), f"text frame: {data!r}"
                if (msg := self._decode(data)) is not None:
                    self.messages.append(msg)
                    self._queue.put_nowait(msg)
        except ConnectionClosed:
            pass
        finally:
            self._queue.put_nowait(None)
            self.closed.set()

    def _decode(self, data):
        try:
            msg = msgpack.unpackb(data, strict_map_key=False)
        except ValueError:
            if self.lenient:
                return None
            raise
        return None if self.lenient and msg["type"] == "RequestError" else msg

    async def send(self, type, **fields):
        """Sends a request and returns it as sent."""
        msg = {"type": type} | fields
        await self.ws.send(msgpack.packb(msg))
        return msg

    async def next(self, *, deadline=DEADLINE):
        """Returns the next message of any type."""
        msg = await within(self._queue.get(), "a message of the agent", deadline=deadline)
        if msg is None:
            self._queue.put_nowait(None)
            raise Closed(f"closed: {self.ws.close_code} {self.ws.close_reason}")
        return msg

    async def expect(self, type, **fields):
        """Returns the next message, which must have this `type` and these fields."""
        msg = await self.next()
        assert msg["type"] == type, msg
        for key, value in fields.items():
            assert msg[key] == value, (key, msg)
        return msg

    async def barrier(self):
        """Sends a request and returns the messages before its answer.

        Answers are in the order of their requests, so a test sees that an earlier request
        had no answer.
        """
        await self.send("ProcidListRequest")
        before = []
        while (msg := await self.next())["type"] != "ProcidList":
            before.append(msg)
        return before

    async def start(self, **specs):
        """Starts processes and returns their first results by ID."""
        await self.send("ProcStartRequest", specs=specs)
        return {i: (await self.expect("ProcResult", proc_id=i))["res"] for i in specs}

    async def ended(self, count=1):
        """Returns the next `count` messages, which must be final results, by ID."""
        res = {}
        for _ in range(count):
            msg = await self.expect("ProcResult")
            assert msg["res"]["state"] != "running"
            assert msg["proc_id"] not in res
            res[msg["proc_id"]] = msg["res"]
        return res

    async def read(self, proc_id, fd="stdout", start=0, stop=None):
        """Returns one range of captured output."""
        await self.send("ProcFdDataRequest", proc_id=proc_id, fd=fd, start=start, stop=stop)
        msg = await self.expect("ProcFdData", proc_id=proc_id, fd=fd, start=start)
        assert set(msg) == {"type", "proc_id", "fd", "start", "stop", "encoding", "data"}
        assert isinstance(msg["data"], bytes)
        assert msg["stop"] == start + len(msg["data"])
        return msg

    async def delete(self, *proc_ids):
        """Deletes exited processes."""
        for proc_id in proc_ids:
            await self.send("ProcDeleteRequest", proc_id=proc_id)
            assert await self.expect("ProcDelete") == {"type": "ProcDelete", "proc_id": proc_id}


class RawServer:
    """Listens on `localhost` or another address, and keeps its port over `stop` and `start`."""

    def __init__(self, *, host="127.0.0.1", token=TOKEN, answer=True, cert=(TLS_CERT_PATH, TLS_KEY_PATH), **kw):
        self.host = host
        self.port = 0
        self.wires = []
        self._token = token
        self._answer = answer
        self._kw = {"max_size": None, "ping_interval": None} | kw
        self._new = asyncio.Queue()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*cert)
        self._server = None

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def start(self):
        """Listens on the same port as before."""
        self._server = await websockets.asyncio.server.serve(
            self._serve, self.host, self.port, ssl=self._tls, **self._kw
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        """Closes all connections and stops listening."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            await within(server.wait_closed(), "end of the server")

    async def connection(self, *, deadline=DEADLINE):
        """Returns the next registered connection."""
        return await within(self._new.get(), "a connection", deadline=deadline)

    async def _serve(self, ws):
        register = msgpack.unpackb(await ws.recv())
        if register.get("access_token") != self._token:
            await ws.close()
            return
        wire = Wire(ws, register)
        if self._answer:
            await wire.send("Registered")
        self.wires.append(wire)
        self._new.put_nowait(wire)
        await wire.pump()


class Agent:
    """A running agent with its log; on exit, the agent and its processes are killed."""

    def __init__(
        self, port, *args, token=TOKEN, cert=TLS_CERT_PATH, env=None, host="localhost", level="info", argv=None, prefix=()
    ):
        self.argv = argv or [
            *prefix, binary(), "--agent", "--agent-host", host, "--agent-port", str(port),
            "--log-level", level, "--connect-interval-start", "0.2", "--connect-interval-max", "1",
            *map(str, args),
        ]  # fmt: skip
        self.env = os.environ | (env or {})
        if cert is not None:
            self.env["PROCSTAR_AGENT_CERT"] = str(cert)
        if token is not None:
            self.env["PROCSTAR_AGENT_TOKEN"] = token
        self.log = []
        self.proc = None

    async def __aenter__(self):
        self.proc = await asyncio.create_subprocess_exec(
            *self.argv, env=self.env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, limit=2**26,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read_log())
        return self

    async def __aexit__(self, *_):
        # Killing the agent alone would leave its processes running.
        pids = list(procs.descendants(self.pid)) if self.proc.returncode is None else []
        for pid in [self.pid, *pids] if self.proc.returncode is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await within(self.proc.wait(), "end of the agent")
        await aeventually(lambda: not any(map(procs.is_alive, pids)), "end of the agent's processes")
        self._reader.cancel()
        print("".join(self.log)[-20_000:])

    async def _read_log(self):
        async for line in self.proc.stderr:
            self.log.append(line.decode(errors="replace"))

    @property
    def pid(self):
        """The process that this suite started."""
        return self.proc.pid

    def signal(self, signum):
        """Sends a signal to the agent."""
        self.proc.send_signal(signum)

    async def exit(self, *, deadline=DEADLINE):
        """Waits for the end of the agent, and returns its exit code and its whole log."""
        code = await within(self.proc.wait(), "exit of the agent", deadline=deadline)
        await within(self._reader, "end of the log")
        return code, "".join(self.log)

    async def logged(self, pattern):
        """Waits for a line of the log that matches `pattern`, a regular expression."""
        found = re.compile(pattern)
        return await aeventually(
            lambda: next((m for m in self.log if found.search(m)), None), f"log line {pattern!r}"
        )
