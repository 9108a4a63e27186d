"""Captures: the kept output, and its representations."""

import base64
import gzip
import hashlib
import os
import re
import stat

import base2048
import brotli
import pytest
import zstandard

from support.oneshot import ok, procstar, run1
from support.shapes import captured
from support.specs import argv, sh, specs
from support.survival import worker_pid
from support.wait import eventually

MIB = 1 << 20
UNPACK = {
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "gzip": gzip.decompress,
    "brotli": brotli.decompress,
}


def fd(mode="memory", encoding="utf-8", **more):
    """The FD of a capture with more keys."""
    return {"capture": {"mode": mode, "encoding": encoding} | more}


def numbers(count):
    """Output of `seq 1 COUNT`."""
    return "".join(f"{n}\n" for n in range(1, count + 1)).encode()


@pytest.mark.parametrize(
    "more, polls", [({}, 10_000), ({"keep": {"head": 1 << 40}}, 1000), ({"compress": "zstd"}, 1000)], ids=str
)
def test_polling_does_not_change_the_output(service, tmp_path, more, polls):
    """10,000 polls while it is written."""
    service = service()
    stop, plenty = tmp_path / "stop", tmp_path / "plenty"
    script = f"i=0; while [ ! -e {stop} ]; do i=$((i+1)); echo $i; [ $i != 50 ] || : > {plenty}; sleep 0.01; done"
    service.post({"a": sh(script, ("stdout", fd(**more)))})
    data = b""
    for _ in range(polls):
        last, data = data, service.http.get("/procs/a/output/stdout/data").content
        assert data.startswith(last)
    # Fast polls leave little CPU time to the writer.
    eventually(plenty.exists, "some output")
    stop.touch()
    res = service.result("a")
    data = service.http.get("/procs/a/output/stdout/data").content
    wanted = numbers(int(data.split()[-1]))
    assert len(wanted) > 100
    assert hashlib.sha256(data).hexdigest() == hashlib.sha256(wanted).hexdigest()
    assert res["captures"]["stdout"]["length"] == len(wanted) and res["captures"]["stdout"]["complete"]


def rss(pid):
    """Resident memory of a process in bytes, without pages of files, which vary with use."""
    with open(f"/proc/{pid}/status") as status:
        kinds = [line for line in status if line.startswith(("RssAnon", "RssShmem"))]
    return sum(int(line.split()[1]) for line in kinds) * 1024


def test_a_gigabyte_is_limited_to_a_mebibyte(service):
    """Memory stays flat, the writer does not wait, and dropped bytes are counted."""
    service = service()
    limit = {"head": MIB, "tail": MIB}
    keeper, worker = service.proc.pid, worker_pid(service.proc.pid)
    before = {pid: rss(pid) for pid in (keeper, worker)}
    highest = dict(before)
    size = 1 << 30
    service.post({"a": sh(f"head -c {size} /dev/zero; echo end", ("stdout", fd(keep=limit)))})
    while service.result("a", ended=False)["state"] == "running":
        highest = {pid: max(rss(pid), most) for pid, most in highest.items()}
    res = service.result("a")
    assert res["captures"]["stdout"] == {
        "length": 2 * MIB, "dropped": size + 4 - 2 * MIB, "complete": False, "reason": "truncated",
        "sha256": hashlib.sha256(captured(res)).hexdigest(),
    }  # fmt: skip
    assert captured(res) == b"\0" * (2 * MIB - 4) + b"end\n"
    grown = {pid: highest[pid] - before[pid] for pid in before}
    print("grown by", grown, "elapsed", res["times"]["elapsed"])
    # A result of the running process copies the tail, and its escaped text is several times as
    # large.
    assert grown[keeper] < 4 * MIB and grown[worker] < 24 * MIB


@pytest.mark.parametrize("mode", ["memory", "tempfile"])
@pytest.mark.parametrize("limit", [{"head": 5}, {"tail": 5}, {"head": 3, "tail": 4}, {"head": 100}], ids=str)
def test_head_and_tail_are_kept_and_the_rest_is_counted(mode, limit):
    text = b"0123456789abcdef"
    res = ok(sh(f"printf {text.decode()}", ("stdout", fd(mode, keep=limit))))
    head, tail = limit.get("head", 0), limit.get("tail", 0)
    kept = text if head + tail >= len(text) else text[:head] + text[len(text) - tail :]
    assert captured(res) == kept
    dropped = len(text) - len(kept)
    assert res["captures"]["stdout"] == {
        "length": len(kept), "dropped": dropped, "complete": not dropped, "reason": "truncated" if dropped else None,
        "sha256": hashlib.sha256(kept).hexdigest(),
    }  # fmt: skip


def test_configured_limits_apply_to_captures_without_their_own():
    env = os.environ | {"PROCSTAR_CAPTURE_KEEP_HEAD": "4", "PROCSTAR_CAPTURE_KEEP_TAIL": "2"}
    spec = sh("printf 0123456789; printf 0123456789 >&2", ("stdout", fd("tempfile")), ("stderr", fd(keep={"head": 5})))
    res = ok(spec, env=env)
    assert captured(res) == b"012389" and captured(res, "stderr") == b"01234"
    assert res["captures"]["stdout"]["dropped"] == 4


@pytest.mark.parametrize("more", [{}, {"keep": {"head": 3, "tail": 3}}, {"compress": "gzip"}], ids=str)
@pytest.mark.parametrize("mode", ["memory", "tempfile"])
def test_named_files_stay_after_the_exit(tmp_path, mode, more):
    """They have their mode regardless of the umask; other captures are removed."""
    for keep in (True, False):
        path = tmp_path / "out"
        path.write_text("older")
        file = {"path": str(path), "mode": 0o664, "delete_with_process": not keep}
        old = os.umask(0o077)
        try:
            res = ok(sh("printf 0123456789", ("stdout", fd(mode, file=file, **more))))
        finally:
            os.umask(old)
        assert res["captures"]["stdout"]["path"] == str(path)
        assert path.exists() == keep
        kept = b"012789" if "keep" in more else b"0123456789"
        assert captured(res) == kept
        if keep:
            assert stat.S_IMODE(path.stat().st_mode) == 0o664
            data = path.read_bytes()
            assert (gzip.decompress(data) if "compress" in more else data) == kept


def test_a_named_file_may_be_deleted_with_its_process(service, tmp_path):
    service = service()
    path = tmp_path / "out"
    service.post({"a": sh("echo hi", ("stdout", fd("tempfile", file={"path": str(path), "delete_with_process": True})))})
    service.result("a")
    assert path.read_text() == "hi\n"
    assert service.http.delete("/procs/a").status_code == 200
    eventually(lambda: not path.exists(), "its removal")


def test_a_named_file_that_cannot_be_created_is_an_error(tmp_path):
    """The failure has stage and path."""
    res = run1(sh("echo hi", ("stdout", fd("tempfile", file={"path": str(tmp_path / "no" / "such")}))))
    assert res["state"] == "error"
    assert res["errors"] == ["failed to set up fd 1: No such file or directory (os error 2)"]
    (failure,) = res["failures"]
    assert (failure["stage"], failure["fd"], failure["path"]) == ("fd", "stdout", str(tmp_path / "no" / "such"))
    assert res["captures"]["stdout"]["reason"] == "not_started"


@pytest.mark.parametrize("kind", UNPACK)
def test_compressed_output_decodes_to_the_same_bytes(service, kind):
    """This holds for the file and for results, as text and as data."""
    wanted = numbers(100_000)
    service = service()
    service.post({
        name: sh("seq 1 100000", ("stdout", fd(encoding=encoding, compress=kind)))
        for name, encoding in (("text", "utf-8"), ("data", None), ("b2048", "base2048"))
    })  # fmt: skip
    for name in ("text", "data", "b2048"):
        res = service.result(name)
        entry = res["fds"]["stdout"]
        record = res["captures"]["stdout"]
        assert (record["length"], record["compression"], record["complete"]) == (len(wanted), kind, True)
        assert record["compressed_bytes"] < len(wanted) / 2
        if name == "text":
            assert entry == {"type": "text", "text": wanted.decode(), "encoding": "utf-8"}
        else:
            assert set(entry) == {"type", "data", "encoding", "compression"} and entry["compression"] == kind
            data = base64.b64decode(entry["data"]) if name == "data" else base2048.decode(entry["data"])
            assert len(data) == record["compressed_bytes"] and UNPACK[kind](data) == wanted
        assert service.http.get(f"/procs/{name}/output/stdout/data").content == wanted


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 11, 12, 1000, 100_001])
def test_base2048_agrees_with_the_package(tmp_path, length):
    data = os.urandom(length)
    (tmp_path / "f").write_bytes(data)
    res = ok(argv("/bin/cat", tmp_path / "f", fds=[["stdout", fd(encoding="base2048")]]))
    entry = res["fds"]["stdout"]
    assert (entry["type"], entry["encoding"]) == ("data", "base2048")
    assert base2048.decode(entry["data"]) == data
    assert entry["data"] == base2048.encode(data)


def test_base64_can_be_given_explicitly(tmp_path):
    """It means the same as null."""
    res = ok(sh("printf abc", ("stdout", fd(encoding="base64"))))
    assert res["fds"]["stdout"] == {"type": "data", "data": "YWJj", "encoding": "base64"}


def test_pipe_size_is_applied():
    """Without it, the pipe has the system's default size."""
    script = "import fcntl; print(fcntl.fcntl(1, 1032))"
    for size, got in ((None, 65536), (4096, 4096), (1 << 20, 1 << 20)):
        more = {} if size is None else {"pipe_size": size}
        res = ok(argv("/usr/bin/python3", "-c", script, fds=[["stdout", fd(**more)]]))
        assert int(captured(res)) == got


def test_chunk_times_show_the_order_of_two_fds():
    """Interleaved as written, or separately."""
    script = "for i in 1 2 3 4 5; do echo out $i; sleep 0.05; echo err $i >&2; sleep 0.05; done"
    res = ok(sh(script, ("stdout", fd(chunk_times=True)), ("stderr", fd(chunk_times=True))))
    texts = {name: captured(res, name).decode() for name in ("stdout", "stderr")}
    assert texts == {f"std{what}": "".join(f"{what} {i}\n" for i in range(1, 6)) for what in ("out", "err")}
    shown = "".join(texts[name][offset : offset + length] for _, name, offset, length in res["chunk_times"])
    assert shown == "".join(f"out {i}\nerr {i}\n" for i in range(1, 6))
    times = [since for since, *_ in res["chunk_times"]]
    assert times == sorted(times) and 0 < times[0] and times[-1] < res["times"]["elapsed"]
    assert ok(sh("echo"))["chunk_times"] is None


def test_a_full_disk_truncates_output_and_ends_no_process(service, tmp_path):
    """The result has the reason; the writer and all other processes continue."""
    if os.getuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m none {small}") != 0:
        pytest.skip("no file system can be mounted here")
    try:
        service = service(env={"PROCSTAR_CAPTURE_DIR": str(small)})
        script = "head -c 5000000 /dev/zero; echo $? >&2; exit 3"
        full = {"mode": "tempfile", "encoding": "utf-8"}
        for name, more in (("limited", {"keep": {"head": 1 << 30}}), ("packed", {"compress": "gzip"})):
            source = "/dev/urandom" if name == "packed" else "/dev/zero"
            spec = sh(script.replace("/dev/zero", source), ("stdout", {"capture": full | more}), ("stderr", fd()))
            service.post({name: spec})
            res = service.result(name)
            assert res["status"]["exit_code"] == 3 and captured(res, "stderr") == b"0\n"
            assert not res["captures"]["stdout"]["complete"] and res["captures"]["stdout"]["reason"] == "error"
            assert service.http.delete(f"/procs/{name}").status_code == 200
        service.post({"other": sh("echo fine")})
        assert captured(service.result("other")) == b"fine\n"
    finally:
        os.system(f"umount -l {small}")


def test_compressed_output_survives_the_keeper(tmp_path, service):
    """The capture writer is a process of its own and stores all data that it has."""
    state = tmp_path / "state"
    stop = tmp_path / "stop"
    service_1 = service("--state-dir", state)
    script = f"seq 1 1000; while [ ! -e {stop} ]; do sleep 0.02; done; seq 1001 2000"
    service_1.post({"a": sh(script, ("stdout", fd(compress="zstd")))})
    eventually(lambda: service_1.result("a", ended=False)["captures"]["stdout"]["length"] == len(numbers(1000)), "half")
    pids = [worker_pid(service_1.proc.pid), service_1.proc.pid]
    for pid in pids[::-1]:
        os.kill(pid, 9)
    service_1.proc.wait()
    service_2 = service("--state-dir", state)
    stop.touch()
    res = service_2.result("a")
    assert captured(res) == numbers(2000)
    assert res["captures"]["stdout"]["complete"] and res["reason"] == "exited"


def files_of(state):
    """Capture files below a state directory."""
    return [path for path in state.rglob("*") if path.is_file() and re.fullmatch(r"[0-9a-f]+\.\d+\.\d+", path.name)]


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_removed_capture_is_an_error(service, tmp_path, ended, how):
    """If the file is removed before or after the end, output never appears empty but complete."""
    state, go = tmp_path / "state", tmp_path / "go"
    service = service("--state-dir", state)
    service.post({"a": sh(f"echo hello; while [ ! -e {go} ]; do sleep 0.02; done", ("stdout", fd("tempfile")))})
    get = lambda what: service.http.get(f"/procs/a/output/stdout/{what}")
    eventually(lambda: get("data").content == b"hello\n", "output")
    if ended:
        go.touch()
        assert service.result("a")["captures"]["stdout"]["complete"]
    (file,) = files_of(state)
    file.rename(tmp_path / "moved")
    if how == "replaced":
        file.write_bytes(b"something else, and longer")
    for what in ("data", "follow"):
        rsp = get(what)
        assert rsp.status_code == 410 and "gone" in rsp.text, (what, rsp.status_code, rsp.text)
    go.touch()
    res = service.result("a")
    record = res["captures"]["stdout"]
    assert (record["complete"], record["reason"], res["status"]["exit_code"]) == (False, "gone", 0), record
    assert captured(res) == b"" and record["length"] == (6 if ended else 0)
    assert get("data").status_code == 410
    logs = procstar("logs", "--url", f"http://127.0.0.1:{service.port}", "a")
    assert logs.returncode != 0 and b"gone" in logs.stderr, logs


def test_a_moved_named_file_is_still_the_output(tmp_path):
    """Log rotation moves a file while the process writes."""
    path = tmp_path / "out"
    script = f"echo one; mv {path} {path}.1; echo other > {path}; echo two"
    res = ok(sh(script, ("stdout", fd("tempfile", file={"path": str(path)}))))
    assert (res["captures"]["stdout"]["complete"], res["captures"]["stdout"]["reason"]) == (True, None)
    assert captured(res) == b"one\ntwo\n" == (tmp_path / "out.1").read_bytes()


def test_a_tail_of_compressed_output_is_refused(service):
    """The error names the alternative."""
    service = service()
    rsp = service.http.post("/procs", json=specs(a=sh("true", ("stdout", fd(compress="zstd", keep={"tail": 10})))))
    assert rsp.status_code == 400
    for word in ("tail", "compress", "cannot be shortened at its beginning", "head"):
        assert word in rsp.text, rsp.text
