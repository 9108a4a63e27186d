"""Judges a result by what its process recorded."""

import base64
from dataclasses import dataclass, field
import hashlib

from .plans import THROUGH_KEEPER


@dataclass
class Verdict:
    """What a result lacks, and what is wrong in it."""

    lost: list = field(default_factory=list)
    # Lost with a keeper that died during the start, before it had answered the request.
    cut: list = field(default_factory=list)
    broken: list = field(default_factory=list)
    wrong: list = field(default_factory=list)

    @property
    def is_notable(self):
        """Whether the files of the process are of use for a diagnosis."""
        return bool(self.lost or self.cut or self.broken or self.wrong)


@dataclass
class Circumstances:
    """What happened while the process ran."""

    # The request to start it was answered.
    answered: bool
    # A keeper was killed, so that the process may have been adopted.
    keeper_died: bool
    # Keeper and worker were killed, so that its pipes may have broken.
    both_died: bool


def judge(plan, result, outputs, circumstances):
    """Compares a final result and its outputs, by name, with the plan and the record."""
    verdict = Verdict()
    record = plan.record()
    runs = plan.runs()
    if result["reason"] == "lost" and result["pid"] is None and not circumstances.answered:
        verdict.cut.append("ran, unknown to the instance" if runs else "never ran")
        if len(runs) > 1:
            verdict.wrong.append(f"started {len(runs)} times: {runs}")
        return verdict
    if len(runs) != 1:
        verdict.wrong.append(f"started {len(runs)} times: {runs}")
    elif result["pid"] not in (runs[0], None):
        verdict.wrong.append(f"pid {result['pid']} instead of {runs[0]}")
    if result["reason"] == "lost":
        verdict.lost.append("; ".join(result["errors"]))
    elif result["state"] != "terminated" or result["errors"]:
        verdict.wrong.append(f"state {result['state']}: {result['errors']}")
    else:
        _judge_end(plan, result, record, verdict)
        _judge_rusage(result["rusage"], record, circumstances, verdict)
    if record is not None and result["captures"]:
        verdict.broken += record.broken
        for name, stream in plan.streams.items():
            exact = not (circumstances.both_died and stream.capture in THROUGH_KEEPER)
            capture, shown = result["captures"][name], result["fds"][name]
            # The output of a lost process is not hashed.
            hashed = exact and not verdict.lost
            wrong = _judge_output(stream, record.written[name], capture, outputs[name], exact, hashed)
            wrong += _judge_copy(shown, outputs[name])
            verdict.wrong += [f"{name} ({stream.capture}): {text}" for text in wrong]
        if not circumstances.both_died:
            verdict.wrong += _judge_chunks(plan, result)
    return verdict


def _judge_end(plan, result, record, verdict):
    status = result["status"]
    found = ("exit", status["exit_code"]) if status["signum"] is None else ("signal", status["signum"])
    if record is None and found == ("signal", 13):
        verdict.broken.append("killed by SIGPIPE")
    elif record is None:
        verdict.wrong.append(f"ended by {found} without a record")
    elif found != plan.end:
        verdict.wrong.append(f"status {found} instead of {plan.end}")


def _judge_rusage(rusage, record, circumstances, verdict):
    unknown = {value is None for key, value in rusage.items() if key != "maxrss"}
    if unknown == {True}:
        if not circumstances.keeper_died:
            verdict.wrong.append("no rusage, although no keeper was killed")
    elif unknown != {False}:
        verdict.wrong.append(f"rusage is known in part: {rusage}")
    elif record is not None and record.cpu is not None:
        cpu = rusage["utime"] + rusage["stime"]
        # The process measured itself a moment before its end.
        if not record.cpu - 0.02 <= cpu <= record.cpu + 1:
            verdict.wrong.append(f"used {cpu} s instead of {record.cpu} s")


def _judge_output(stream, written, capture, data, exact, hashed):
    if data is None:
        return [f"cannot be read: {capture}"]
    wrong = []
    total = capture["length"] + capture["dropped"]
    if capture["length"] != len(data):
        wrong.append(f"length {capture['length']} of {len(data)} bytes")
    # What a broken pipe held was never read.
    wanted = written if exact else written[:total]
    if data != stream.kept(wanted):
        wrong.append(f"{difference(stream.kept(wanted), data)}; {len(written)} written, {capture}")
    if exact and total != len(written):
        wrong.append(f"{total} bytes instead of {len(written)}")
    whole = total == len(written) and not capture["dropped"]
    if capture["complete"] and not whole:
        wrong.append(f"claims to be complete: {len(data)} of {len(written)} bytes")
    if exact and whole and not capture["complete"]:
        wrong.append(f"does not claim to be complete: {capture}")
    if stream.capture != "compress":
        if capture["sha256"] not in (hashlib.sha256(data).hexdigest(), None) or (hashed and capture["sha256"] is None):
            wrong.append(f"SHA-256 {capture['sha256']}")
        if stream.path is not None and stream.path.read_bytes() != data:
            wrong.append("the named file differs")
    return wrong


def _judge_copy(shown, data):
    """The output within the result."""
    if shown["type"] == "detached" or data is None or base64.b64decode(shown["data"]) == data:
        return []
    return ["the result has other bytes"]


def _judge_chunks(plan, result):
    """The chunks of each output follow each other, up to its end."""
    wrong = []
    for name, stream in plan.streams.items():
        if stream.capture != "chunk times":
            continue
        offset = 0
        for _, _, start, length in (chunk for chunk in result["chunk_times"] or () if chunk[1] == name):
            if start != offset:
                wrong.append(f"{name}: a chunk at {start} instead of {offset}")
            offset = start + length
        if offset != result["captures"][name]["length"]:
            wrong.append(f"{name}: chunks up to {offset} of {result['captures'][name]['length']}")
    return wrong


def difference(wanted, found):
    """Where two outputs begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(wanted, found)) if a != b), min(len(wanted), len(found)))
    return f"{len(found)} bytes instead of {len(wanted)}, different from {at} on"
