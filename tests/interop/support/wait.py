"""Waiting for conditions, always with a deadline, never for a fixed time."""

import asyncio
import inspect
import time

# Long enough for a busy machine with two cores; no test passes because this time is over.
DEADLINE = 20.0
INTERVAL = 0.01


def eventually(condition, what, *, deadline=DEADLINE):
    """Waits until `condition()` is truthy, and returns its value."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(INTERVAL)
    return value


async def aeventually(condition, what, *, deadline=DEADLINE):
    """`eventually` for tests that share an event loop with a server; the condition may be a
    coroutine."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        await asyncio.sleep(INTERVAL)


async def within(awaitable, what, *, deadline=DEADLINE):
    """Awaits `awaitable`; if it is late, the error names `what`."""
    try:
        return await asyncio.wait_for(awaitable, deadline)
    except asyncio.TimeoutError:
        raise AssertionError(f"not within {deadline} s: {what}") from None
