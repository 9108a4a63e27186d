"""HTTP: every route, by the Python package's clients and by plain requests."""

import json
import os
import signal
import subprocess
import uuid

import httpx
import pytest
import requests

import procstar.http.client
import procstar.spec
import procstar.testing.inst
from support.http import check_error
from support.oneshot import procstar as run_binary
from support.shapes import captured, check_result
from support.specs import TRUE, argv, capture, file, sh, sleeper, until

ODD_IDS = ["a b", "a/b", "日本", "x%2Fy", "?q=1&r", "#", "..", "+", "a;b", "100%"]


def quoted(text):
    """A path segment, completely percent-encoded."""
    return "".join(f"%{b:02X}" for b in text.encode())


async def test_the_packages_async_client_works(service):
    svc = service()
    async with httpx.AsyncClient() as http:
        client = procstar.http.client.AsyncClient(("localhost", svc.port), http)
        assert await client.get_procs() == {}
        proc_id = await client.start_proc(procstar.spec.make_proc("echo out; echo err >&2; exec sleep 1000"))
        assert str(uuid.UUID(proc_id)) == proc_id
        while await client.get_output_data(proc_id, "stderr") != "err\n":
            pass
        assert await client.get_output_data(proc_id, "stdout") == "out\n"
        assert check_result(await client.get_proc(proc_id))["state"] == "running"
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            await client.delete_proc(proc_id)
        await client.send_signal(proc_id, "SIGTERM")
        res = svc.result(proc_id)
        assert check_result(res)["status"]["signal"] == "SIGTERM"
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            await client.send_signal(proc_id, "15")
        listed = await client.get_procs()
        for one in (res, listed[proc_id]):
            one["times"].pop("now")
        assert listed == {proc_id: res}
        await client.delete_proc(proc_id)
        assert await client.get_procs() == {}
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await client.get_proc(proc_id)
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await client.delete_proc(proc_id)


def test_the_packages_instance_and_blocking_client_work():
    """The service runs in an empty environment."""
    inst = procstar.testing.inst.Instance()
    try:
        assert inst.client.get_procs() == {}
    finally:
        inst.close()


def test_post_starts_and_get_returns_the_result(service):
    """All JSON responses have the plain content type."""
    svc = service()
    rsp = svc.post({"a": sh("echo hi"), "b": argv("/nonexistent", fds=[["stdout", capture()]])})
    assert rsp.headers["content-type"] == "application/json"
    assert set(rsp.json()) == {"data"} and isinstance(rsp.json()["data"], dict)
    res = check_result(svc.result("a"))
    assert captured(res) == b"hi\n"
    error = check_result(svc.result("b"))
    assert error["state"] == "error" and error["status"]["exit_code"] == 127
    rsp = svc.http.get("/procs")
    assert rsp.headers["content-type"] == "application/json"
    assert set(rsp.json()) == {"data"} and set(rsp.json()["data"]) == {"procs"}
    assert set(rsp.json()["data"]["procs"]) == {"a", "b"}
    rsp = svc.http.get("/procs/a")
    assert set(rsp.json()["data"]) == {"procs"} and set(rsp.json()["data"]["procs"]) == {"a"}
    rsp = svc.http.delete("/procs/a")
    assert rsp.status_code == 200 and rsp.headers["content-type"] == "application/json"
    assert set(svc.get("/procs")["procs"]) == {"b"}


def test_the_content_type_must_be_json(service):
    """A charset is accepted."""
    svc = service()
    for num, kind in enumerate(
        ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"]
    ):
        body = json.dumps({"specs": {f"p{num}": argv(TRUE)}})
        rsp = svc.http.post("/procs", content=body, headers={"Content-Type": kind})
        assert rsp.status_code == 200, (kind, rsp.text)
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}):
        rsp = svc.http.post("/procs", content=json.dumps({"specs": {"no": argv(TRUE)}}), headers=headers)
        assert 400 <= rsp.status_code < 500
        check_error(rsp, rsp.status_code)
    assert "no" not in svc.get("/procs")["procs"]


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", '{"specs": []}', "{}", '{"specs": {}, "more": 1}', '{"specs": {"a": {"argv": 1}}}',
     '{"specs": {"ok": {"argv": ["/usr/bin/true"]}, "a": {"argv": ["/usr/bin/true"], "bad": 1}}}',
     '{"specs": {"a": {"argv": ["a\\u0000b"]}}}', "[" * 100_000, "\xff"],
    ids=range(12),
)  # fmt: skip
def test_an_invalid_body_is_an_error_and_starts_nothing(service, body):
    """The next request works."""
    svc = service()
    data = body.encode("latin-1")
    rsp = svc.http.post("/procs", content=data, headers={"Content-Type": "application/json"})
    check_error(rsp, 400)
    assert svc.get("/procs") == {"procs": {}}
    svc.post({"a": argv(TRUE)})
    assert svc.result("a")["state"] == "terminated"


def test_errors_contain_the_path_of_the_invalid_key(service):
    """The form is that of errors in a file."""
    svc = service()
    rsp = svc.http.post("/procs", json={"specs": {"a": argv(TRUE, fds=[["stdin", "close"], ["0", "close"]])}})
    assert "specs.a.fds[1]" in check_error(rsp, 400)


def test_a_duplicate_id_is_refused_until_deleted(service):
    """The whole request starts nothing."""
    svc = service()
    svc.post({"a": argv(TRUE)})
    svc.result("a")
    rsp = svc.http.post("/procs", json={"specs": {"b": argv(TRUE), "a": argv(TRUE)}})
    assert 400 <= rsp.status_code < 500
    assert "a" in check_error(rsp, rsp.status_code)
    assert set(svc.get("/procs")["procs"]) == {"a"}
    assert svc.http.delete("/procs/a").status_code == 200
    svc.post({"a": argv(TRUE)})


@pytest.mark.parametrize("proc_id", ODD_IDS)
def test_ids_are_percent_encoded(service, proc_id):
    svc = service()
    path = f"/procs/{quoted(proc_id)}"
    svc.post({proc_id: sh("echo out; exec sleep 1000")})
    while svc.http.get(f"{path}/output/%73tdout/data").text != "out\n":
        pass
    assert set(svc.get(path)["procs"]) == {proc_id}
    check_error(svc.http.delete(path), 409)
    assert svc.http.post(f"{path}/signals/9").status_code == 200
    assert svc.result(quoted(proc_id))["status"]["signum"] == 9
    assert svc.http.delete(path).status_code == 200
    check_error(svc.http.get(path), 404)


@pytest.mark.parametrize("given, signum", [("SIGTERM", 15), ("15", 15), ("SIGKILL", 9), ("SIGUSR1", 10), ("16", 16),
                                           ("34", 34), ("SIGSTKFLT", 16)])  # fmt: skip
def test_signals_have_names_and_numbers(service, given, signum):
    svc = service()
    svc.post({"p": sleeper()})
    rsp = svc.http.post(f"/procs/p/signals/{given}")
    assert rsp.status_code == 200 and rsp.headers["content-type"] == "application/json"
    assert svc.result("p")["status"]["signum"] == signum
    check_error(svc.http.post(f"/procs/p/signals/{given}"), 409)


@pytest.mark.parametrize("given", ["SIGNOTHING", "0x9", "-9", "65", "99999999999999999999", "9.0", "%20"])
def test_an_unknown_signal_is_400(service, given):
    """The process continues."""
    svc = service()
    svc.post({"p": sleeper()})
    check_error(svc.http.post(f"/procs/p/signals/{given}"), 400)
    assert svc.result("p", ended=False)["state"] == "running"


@pytest.mark.parametrize("mode", ["memory", "tempfile"])
def test_output_is_text_with_charset_or_exact_bytes(service, mode):
    svc = service()
    everything = bytes(range(256)) * 100
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 100); sys.stderr.write('tëxt\\n')"
    proc = argv("/usr/bin/env", "python3", "-X", "utf8", "-c", script,
                fds=[["stdout", capture(mode, None)], ["stderr", capture(mode)],
                     ["7", capture(mode, None, False)], ["stdin", {"null": {}}]])  # fmt: skip
    svc.post({"p": proc})
    assert svc.result("p")["status"]["exit_code"] == 0
    rsp = svc.http.get("/procs/p/output/stdout/data")
    assert (rsp.status_code, rsp.headers["content-type"]) == (200, "application/octet-stream")
    assert rsp.content == everything
    rsp = svc.http.get("/procs/p/output/stderr/data")
    assert (rsp.status_code, rsp.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert rsp.content == "tëxt\n".encode()
    rsp = svc.http.get("/procs/p/output/7/data")
    assert (rsp.status_code, rsp.content) == (200, b"")
    for fd in ("stdin", "9", "nonsense"):
        check_error(svc.http.get(f"/procs/p/output/{fd}/data"), 404)


def test_100_mb_of_output_are_returned(service, random_file):
    """Detached and in a result."""
    svc = service()
    svc.post({"p": argv("/bin/cat", random_file, fds=[["stdout", capture("tempfile", None, False)]])})
    svc.result("p")
    assert svc.http.get("/procs/p/output/stdout/data").content == random_file.read_bytes()
    svc.post({"q": argv("/bin/cat", random_file, fds=[["stdout", capture("memory", None)]])})
    assert captured(svc.result("q")) == random_file.read_bytes()


def test_unknown_processes_and_paths_are_404(service):
    svc = service()
    check_error(svc.http.get("/procs/no"), 404)
    check_error(svc.http.delete("/procs/no"), 404)
    check_error(svc.http.post("/procs/no/signals/9"), 404)
    check_error(svc.http.get("/procs/no/output/stdout/data"), 404)
    for path in ("/ui", "/nothing", "/procs/no/nothing", "/procs/no/output"):
        check_error(svc.http.get(path), 404)
    for method in ("PUT", "PATCH"):
        rsp = svc.http.request(method, "/procs")
        assert rsp.status_code in (404, 405)
        check_error(rsp, rsp.status_code)


def test_deleting_a_running_process_is_409(service):
    svc = service()
    svc.post({"p": sleeper()})
    check_error(svc.http.delete("/procs/p"), 409)
    assert svc.result("p", ended=False)["state"] == "running"


def _local(svc, host):
    return svc.http.get("/procs", headers={"Host": host})


@pytest.mark.parametrize("host", ["example.com", "example.com:3000", "localhost.example.com", "127.0.0.1.example.com",
                                  "10.0.0.1", "0x7f.1.evil", ""])  # fmt: skip
def test_foreign_host_names_are_refused(service, host):
    """Otherwise a web page could send requests under another name of this machine."""
    svc = service()
    rsp = _local(svc, host)
    assert rsp.status_code in ((403,) if host else (400, 403))
    if rsp.status_code == 403:
        check_error(rsp, 403)
    rsp = svc.http.post("/procs", json={"specs": {"p": argv(TRUE)}}, headers={"Host": host})
    assert rsp.status_code in (400, 403)
    assert svc.get("/procs") == {"procs": {}}


def test_names_of_the_loopback_are_accepted(service):
    svc = service()
    for host in (f"localhost:{svc.port}", f"127.0.0.1:{svc.port}", "localhost", "127.0.0.1", "LOCALHOST", "[::1]"):
        assert _local(svc, host).status_code == 200, host


ASK = r"""
exec 3<>/dev/tcp/127.0.0.1/$1
printf '%s /procs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' "$2" >&3
cat <&3
"""


def _ask_as(svc, uid, method="GET"):
    who = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if uid else []
    done = subprocess.run(
        [*who, "/bin/bash", "-c", ASK, "bash", str(svc.port), method],
        capture_output=True, timeout=20, cwd="/", check=True,
    )  # fmt: skip
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_other_users_are_refused(service):
    """The service's own user and root are not refused."""
    svc = service()
    for method in ("GET", "POST"):
        status, body = _ask_as(svc, 65534, method)
        assert status == 403
        assert json.loads(body)["errors"][0]["status"] == "403"
        assert json.loads(body)["errors"][0]["detail"]
    assert _ask_as(svc, 0)[0] == 200


def test_processes_of_input_exist_once_the_service_listens(service, tmp_path):
    spec = {"specs": {"first": until(tmp_path / "go"), "bad": argv("/nonexistent")}}
    svc = service("-", input=json.dumps(spec).encode())
    assert set(svc.get("/procs")["procs"]) == {"first", "bad"}
    assert "started processes from specs" in svc.log()
    (tmp_path / "go").touch()
    assert svc.result("first")["status"]["exit_code"] == 0


def test_exit_ends_the_service_after_the_last_process(service, tmp_path):
    spec = {"specs": {"a": until(tmp_path / "go", "echo x")}}
    svc = service("--print", "-", input=json.dumps(spec).encode())
    assert svc.result("a", ended=False)["state"] == "running"
    (tmp_path / "go").touch()
    assert svc.proc.wait(20) == 0
    assert captured(json.loads(svc.proc.stdout.read())["a"]) == b"x\n"


def test_wait_ends_the_service_after_the_last_deletion(service):
    svc = service("--wait", "-", input=json.dumps({"specs": {"a": argv(TRUE)}}).encode())
    svc.post({"b": argv(TRUE)})
    for name in ("a", "b"):
        svc.result(name)
        assert svc.proc.poll() is None
        assert svc.http.delete(f"/procs/{name}").status_code == 200
    assert svc.proc.wait(20) == 0


def test_a_port_in_use_is_an_error(service):
    svc = service()
    done = run_binary("--serve", "--serve-port", svc.port, timeout=20)
    assert done.returncode != 0
    assert str(svc.port).encode() in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT])
def test_shutdown_serves_clients_until_all_is_deleted(service, signum):
    svc = service()
    svc.post({"p": sleeper()})
    svc.proc.send_signal(signum)
    assert svc.result("p")["status"]["signum"] == (15 if signum == signal.SIGTERM else 9)
    assert svc.http.delete("/procs/p").status_code == 200
    assert svc.proc.wait(4.5) >= 0


def test_a_draining_service_refuses_starts(service):
    svc = service()
    svc.post({"p": sleeper()})
    svc.proc.send_signal(signal.SIGUSR1)
    # The signal takes effect a moment after it was sent.
    num = 0
    while (rsp := svc.http.post("/procs", json={"specs": {f"q{num}": argv(TRUE)}})).status_code == 200:
        svc.result(f"q{num}")
        assert svc.http.delete(f"/procs/q{num}").status_code == 200
        num += 1
    assert 400 <= rsp.status_code < 600
    assert "agent shutting down: idling" in check_error(rsp, rsp.status_code)
    svc.http.post("/procs/p/signals/9")
    svc.result("p")
    assert svc.http.delete("/procs/p").status_code == 200
    assert svc.proc.wait(20) == 0


def test_500_connections_start_and_list_processes(service):
    svc = service()
    with requests.Session() as http:
        for num in range(500):
            rsp = http.post(f"http://127.0.0.1:{svc.port}/procs", json={"specs": {f"p{num}": argv(TRUE)}})
            assert rsp.status_code == 200
    for num in range(500):
        svc.result(f"p{num}")
    res = svc.get("/procs")["procs"]
    assert len(res) == 500 and all(r["status"]["exit_code"] == 0 for r in res.values())


def test_a_request_may_have_5000_specs(service):
    """More than a megabyte."""
    svc = service("--restrict-exe", TRUE)
    specs = {f"p{n}": argv("/nonexistent", "x" * 300, fds=[["stdin", file("/dev/null")]]) for n in range(5000)}
    svc.post(specs)
    res = svc.get("/procs")["procs"]
    assert len(res) == 5000
    assert all(r["errors"][0].startswith("restricted executable: ") for r in res.values())
