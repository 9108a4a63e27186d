"""A scheduler with its own TLS and WebSocket frames, which can send what a library would refuse."""

import asyncio
import base64
import contextlib
import hashlib
import ssl
import struct

import msgpack

from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH

from .wait import DEADLINE, within

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def header(opcode, length, *, fin=True, reserved=0, masked=False, width=None):
    """The header of a frame. `length` and its `width` in bits (7, 16, 64) need not match the
    payload."""
    width = width or (7 if length < 126 else 16 if length < 1 << 16 else 64)
    mask = 0x80 if masked else 0
    first = opcode | reserved | (0x80 if fin else 0)
    tail = {7: bytes([length | mask]) if width == 7 else b"", 16: b"", 64: b""}[width]
    if width == 16:
        tail = bytes([126 | mask]) + struct.pack(">H", length)
    elif width == 64:
        tail = bytes([127 | mask]) + struct.pack(">Q", length)
    return bytes([first]) + tail


def frame(opcode, payload=b"", **kw):
    """A whole frame without a mask."""
    return header(opcode, len(payload), **kw) + payload


def message(type, **fields):
    """A whole message in one frame."""
    return frame(BINARY, msgpack.packb({"type": type} | fields))


async def accept_upgrade(reader, writer):
    """Reads the upgrade request and answers it."""
    request = await reader.readuntil(b"\r\n\r\n")
    writer.write(upgrade_answer(request))
    await writer.drain()


def upgrade_answer(request):
    """The answer to an upgrade request."""
    headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    key = next(value for name, value in headers.items() if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


async def read_frame(reader):
    """Returns the next frame of the agent: opcode, whether it ends its message, payload."""
    first, second = await reader.readexactly(2)
    assert second & 0x80, "a client masks its frames"
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", await reader.readexactly(8))
    key = await reader.readexactly(4)
    data = await reader.readexactly(length)
    # XOR of long integers: a loop over a megabyte of bytes would dominate the test's time.
    stretched = (key * (length // 4 + 1))[:length]
    plain = int.from_bytes(data, "big") ^ int.from_bytes(stretched, "big")
    return first & 0x0F, bool(first & 0x80), plain.to_bytes(length, "big")


class Bare:
    """One connection after upgrade and registration."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.register = None

    async def send(self, data):
        """Sends bytes unchanged."""
        self.writer.write(data)
        await self.writer.drain()

    async def read(self):
        """Returns the agent's next message, or its Close as `(code, reason)`; skips pings."""
        parts = []
        while True:
            opcode, fin, payload = await within(read_frame(self.reader), "a frame of the agent")
            if opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else None
                return code, payload[2:].decode()
            if opcode in (PING, PONG):
                continue
            parts.append(payload)
            if fin:
                return msgpack.unpackb(b"".join(parts), strict_map_key=False)

    async def next_of(self, type):
        """Returns the next message of this type; skips others."""
        while True:
            msg = await self.read()
            assert not isinstance(msg, tuple), f"closed: {msg}"
            if msg["type"] == type:
                return msg

    async def end(self):
        """Reads until the agent closes TCP; returns its Close, if it sent one."""
        said = None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                got = await self.read()
                if isinstance(got, tuple):
                    said = got
        self.writer.close()
        return said


class BareServer:
    """Listens with TLS on 127.0.0.1; `connection` returns registered connections."""

    def __init__(self, *, cert=(TLS_CERT_PATH, TLS_KEY_PATH), registered=True):
        self.port = 0
        self._registered = registered
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*cert)
        self._new = asyncio.Queue()
        self._server = None
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await accept_upgrade(reader, writer)
            bare = Bare(reader, writer)
            _, _, payload = await read_frame(reader)
            bare.register = msgpack.unpackb(payload)
            assert bare.register["type"] == "Register"
            if self._registered:
                await bare.send(message("Registered"))
            self._new.put_nowait(bare)

    async def connection(self, *, deadline=DEADLINE):
        """Returns the next connection."""
        return await within(self._new.get(), "a connection", deadline=deadline)
