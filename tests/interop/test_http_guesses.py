"""Wrong tokens: logged, counted and delayed, without delaying the right one."""

import concurrent.futures
import os
import re
import subprocess
import time

import httpx
import pytest

from support.http import check_error
from support.wait import eventually

TOKEN = "8ePqYiqbZ4AnXB2hWx8WQg"
MALLORY = 65_001


@pytest.fixture
def guarded(service):
    """A service that requires the token from every client."""
    return service("--log-level", "warn", env={"PROCSTAR_HTTP_REQUIRE_TOKEN": "true"}, token=TOKEN)


def guess(svc, number):
    """A guess on a connection of its own, which a refusal closes."""
    headers = {"Authorization": f"Bearer {number:022}"}
    return httpx.get(f"http://127.0.0.1:{svc.port}/procs", headers=headers, timeout=60)


def refusals(svc):
    """The counters of /metrics, by reason."""
    text = svc.http.get("/metrics").text
    return {reason: int(count) for reason, count in re.findall(r'procstar_http_refusals_total\{reason="(\w+)"\} (\d+)', text)}


def logged(svc):
    """The counts in the log lines of refusals."""
    return [int(count) for count in re.findall(r"WARN .*refused an HTTP request address=127\.0\.0\.1 \(user ID \d+\) count=(\d+)", svc.log())]


def test_each_guess_is_delayed_twice_as_long(guarded):
    """The log has the first guess, the second, the fourth and so on."""
    began = time.monotonic()
    for number in range(5):
        check_error(guess(guarded, number), 403)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4 + 0.8 + 1.6
    eventually(lambda: logged(guarded) == [1, 2, 4], "the lines of the log")
    assert refusals(guarded) == {"host": 0, "site": 0, "session": 0, "guess": 5, "user": 0}
    # A request without a token is not a guess: it is not delayed, but counted.
    check_error(httpx.get(f"http://127.0.0.1:{guarded.port}/procs"), 403)
    check_error(httpx.get(f"http://127.0.0.1:{guarded.port}/procs", headers={"Host": "evil.example"}), 403)
    assert refusals(guarded) == {"host": 1, "site": 0, "session": 0, "guess": 5, "user": 1}
    assert TOKEN not in guarded.log() and "0000000000" not in guarded.log()


def test_many_guesses_at_once_do_not_delay_the_right_token(guarded):
    """Few guesses wait, the others are refused."""
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        # The later ones wait for seconds.
        for number in range(3):
            guess(guarded, number)
        guesses = [pool.submit(guess, guarded, number) for number in range(24)]
        while not all(one.done() for one in guesses):
            assert guarded.http.get("/procs").status_code == 200
    answers = [one.result() for one in guesses]
    assert {answer.status_code for answer in answers} == {403, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert "wrong tokens" in check_error(answer, 429) and int(answer.headers["retry-after"]) >= 1
    eventually(lambda: logged(guarded) == [1, 2, 4, 8, 16], "the lines of the log")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stand in for another user")
def test_guesses_are_counted_by_user(guarded):
    """The users have the same address."""
    command = ["curl", "-s", "-o", "/dev/null", "-H", "Authorization: Bearer x", f"http://127.0.0.1:{guarded.port}/procs"]
    for _ in range(4):
        subprocess.run(command, check=True, user=MALLORY, group=MALLORY, extra_groups=[], cwd="/")
    check_error(guess(guarded, 1), 403)
    eventually(lambda: f"(user ID {MALLORY}) count=4 " in guarded.log() and "(user ID 0) count=1 " in guarded.log(), "both in the log")
