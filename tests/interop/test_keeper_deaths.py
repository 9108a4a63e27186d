"""Any process of an instance is killed at random: `tests/survival` at a smaller size."""

import subprocess
import sys

import pytest

# The longest process runs 40 s after the last kill, at most.
LIMIT = 300


@pytest.mark.timeout(LIMIT + 20)
@pytest.mark.parametrize("kinds, kills", [("agent,keeper,upgrade", 18), ("both", 5)])
def test_every_status_and_byte_is_exact(kinds, kills):
    # In a process of its own, which reaps all orphans.
    command = [sys.executable, "-m", "support.deaths", "--kill", kinds, "--kills", str(kills), "--busy", "1", "--longest", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
