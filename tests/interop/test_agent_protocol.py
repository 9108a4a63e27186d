"""The protocol without the Python package: every message has exactly its keys, in order."""

import grp
import os
import pwd
import signal
import socket
import uuid

import pytest

from support.agent import TOKEN
from support.shapes import captured, check_result
from support.specs import TRUE, argv, capture, file, sh, sleeper, until


def check_message(msg):
    """Asserts that a result message has exactly these keys, and checks the result."""
    assert set(msg) == {"type", "proc_id", "res"}
    assert "procstar" not in msg["res"]
    return check_result(msg["res"])


async def test_register_has_exactly_its_keys(raw):
    """The package's server closes the connection on any other key."""
    server = await raw.server()
    agent = await raw.agent(server, "--group-id", "some group", "--conn-id", "conn 7")
    msg = (await server.connection()).register
    user = pwd.getpwuid(os.getuid()).pw_name
    group = grp.getgrgid(os.getgid()).gr_name
    assert msg == {
        "type": "Register",
        "conn": {"conn_id": "conn 7", "group_id": "some group", "restricted_exe": None},
        "proc": {
            "pid": agent.pid, "ppid": os.getpid(),
            "uid": os.getuid(), "euid": os.geteuid(), "username": user,
            "gid": os.getgid(), "egid": os.getegid(), "groupname": group,
            "hostname": socket.gethostname(),
        },
        "proc_ids": [],
        "access_token": TOKEN,
        "shutdown_state": "active",
    }  # fmt: skip


async def test_register_reports_a_restriction(raw):
    """The restriction is also enforced."""
    _, _, wire = await raw.pair("--restrict-exe", TRUE)
    assert wire.register["conn"]["restricted_exe"] == TRUE
    first = await wire.start(bad=argv("/usr/bin/false"))
    assert first["bad"]["errors"][0].startswith(f"restricted executable: {TRUE}")
    await wire.ended()
    await wire.start(good=argv(TRUE))
    assert (await wire.ended())["good"]["status"]["exit_code"] == 0


async def test_a_connection_id_is_a_random_uuid(raw):
    server = await raw.server()
    for _ in range(2):
        await raw.agent(server)
    ids = {(await server.connection()).register["conn"]["conn_id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(str(uuid.UUID(i)) == i for i in ids)


async def test_flags_override_environment_variables(raw):
    """PROCSTAR_AGENT_HOST, _PORT and PROCSTAR_GROUP_ID."""
    server = await raw.server()
    env = {"PROCSTAR_GROUP_ID": "from env", "PROCSTAR_AGENT_PORT": "1", "PROCSTAR_AGENT_HOST": "nowhere.invalid"}
    await raw.agent(server, env=env)
    assert (await server.connection()).register["conn"]["group_id"] == "from env"
    await raw.agent(server, "--group-id", "from flag", env=env)
    assert (await server.connection()).register["conn"]["group_id"] == "from flag"


async def test_host_and_port_come_from_the_environment(raw):
    server = await raw.server()
    agent = await raw.agent(server, env={"PROCSTAR_AGENT_HOST": "localhost"})
    await server.connection()
    argv_without = [a for a in agent.argv if a not in ("--agent-host", "--agent-port", "localhost", str(server.port))]
    env = {"PROCSTAR_AGENT_HOST": "localhost", "PROCSTAR_AGENT_PORT": str(server.port)}
    assert await raw.agent(server, env=env, argv=argv_without)
    await server.connection()


async def test_every_process_has_exactly_two_results(raw):
    """One at the start and one at the end, also if it ends at once."""
    _, _, wire = await raw.pair()
    for num in range(30):
        await wire.send("ProcStartRequest", specs={f"p{num}": argv(TRUE)})
        first = check_message(await wire.expect("ProcResult", proc_id=f"p{num}"))
        assert (first["state"], first["status"], first["rusage"], first["times"]["stop"]) == ("running", None, None, None)
        last = check_message(await wire.expect("ProcResult", proc_id=f"p{num}"))
        assert (last["state"], last["pid"]) == ("terminated", first["pid"])
    assert await wire.barrier() == []


async def test_a_failed_start_has_two_results(raw):
    """The failed process exists until it is deleted."""
    _, _, wire = await raw.pair()
    for num, spec in enumerate([argv("/nonexistent"), argv("/tmp"), argv(TRUE, fds=[["9", file("/no/such")]])]):
        name = f"p{num}"
        await wire.send("ProcStartRequest", specs={name: spec})
        first, last = [check_message(await wire.expect("ProcResult", proc_id=name)) for _ in range(2)]
        assert (first["state"], last["state"]) == ("error", "error")
        assert first["errors"] == last["errors"]
        assert first["pid"] == last["pid"]
        assert last["status"]["exit_code"] == (127, 126, 125)[num]
        assert last["rusage"] is not None and last["times"]["stop"] is not None
        await wire.delete(name)
    assert await wire.barrier() == []


async def test_each_process_of_a_request_has_its_results_in_order(raw):
    _, _, wire = await raw.pair()
    count = 500
    await wire.send("ProcStartRequest", specs={f"p{n}": argv(TRUE) for n in range(count)})
    seen = {}
    for _ in range(2 * count):
        msg = await wire.next()
        seen.setdefault(msg["proc_id"], []).append(check_message(msg))
    assert len(seen) == count
    for first, last in seen.values():
        assert (first["state"], last["state"]) == ("running", "terminated")
        assert first["pid"] == last["pid"]
    assert await wire.barrier() == []


async def test_processes_of_a_request_may_be_joined_by_pipes(raw):
    _, _, wire = await raw.pair()
    read = sh("cat", ("stdin", {"pipe-read": {"proc_id": "w", "fd": "stdout"}}), ("stdout", capture()))
    await wire.send("ProcStartRequest", specs={"r": read, "w": sh("echo piped", ("stdout", "pipe-write"))})
    results = [(await wire.expect("ProcResult")) for _ in range(4)]
    last = {m["proc_id"]: m["res"] for m in results}
    assert captured(last["r"]) == b"piped\n"


async def test_a_requested_result_is_current_until_the_end(raw, tmp_path):
    _, _, wire = await raw.pair()
    await wire.start(p=until(tmp_path / "go", "echo x"))
    await wire.send("ProcResultRequest", proc_id="p")
    now = check_message(await wire.expect("ProcResult", proc_id="p"))
    assert now["state"] == "running"
    assert now["proc_stat"]["comm"] == "sh"
    assert now["proc_statm"]["size"] > 0
    (tmp_path / "go").touch()
    last = (await wire.ended())["p"]
    await wire.send("ProcResultRequest", proc_id="p")
    again = check_message(await wire.expect("ProcResult", proc_id="p"))
    for res in (last, again):
        res["times"].pop("now")
    assert again == last


async def test_the_output_of_a_running_process_can_be_read(raw, tmp_path):
    """In a result, and by range."""
    _, _, wire = await raw.pair()
    for mode in ("memory", "tempfile"):
        go = tmp_path / mode
        script = f"echo begin; while [ ! -e {go} ]; do sleep 0.02; done; echo end"
        await wire.start(**{mode: sh(script, ("stdout", capture(mode)))})
        while (part := await wire.read(mode))["data"] == b"":
            pass
        assert (part["data"], part["encoding"]) == (b"begin\n", "utf-8")
        go.touch()
        assert captured((await wire.ended())[mode]) == b"begin\nend\n"
        assert (await wire.read(mode, start=6))["data"] == b"end\n"


async def test_stop_is_limited_to_the_end_of_the_data(raw):
    _, _, wire = await raw.pair()
    for mode in ("memory", "tempfile"):
        for attached in (True, False):
            for encoding in (None, "utf-8"):
                name = f"{mode}-{attached}-{encoding}"
                await wire.start(**{name: sh("printf 0123456789", ("stdout", capture(mode, encoding, attached)))})
                await wire.ended()
                for start, stop, data in [
                    (0, None, b"0123456789"), (0, 10, b"0123456789"), (0, 4, b"0123"), (4, None, b"456789"),
                    (4, 6, b"45"), (4, 4, b""), (8, 100, b"89"), (10, None, b""), (11, 20, b""), (2**40, None, b""),
                    (2**63, None, b""), (0, 2**63, b"0123456789"),
                ]:  # fmt: skip
                    part = await wire.read(name, start=start, stop=stop)
                    assert part["data"] == data, (start, stop)
                    assert part["encoding"] == encoding
    assert await wire.barrier() == []


async def test_a_range_may_split_characters(raw):
    """Data are bytes."""
    _, _, wire = await raw.pair()
    await wire.start(p=sh("printf 'aé🦀'"))
    await wire.ended()
    assert (await wire.read("p", start=2, stop=4))["data"] == "aé🦀".encode()[2:4]


async def test_a_range_of_an_uncaptured_fd_is_an_error(raw):
    """The error has the request."""
    _, _, wire = await raw.pair()
    await wire.start(p=sh("true", ("stdin", {"null": {}}), ("stdout", capture())))
    await wire.ended()
    for fd in ("stdin", "stderr", "7", "nonsense"):
        sent = await wire.send("ProcFdDataRequest", proc_id="p", fd=fd, start=0, stop=None)
        msg = await wire.expect("RequestError")
        assert set(msg) == {"type", "msg", "err"}
        assert msg["msg"] == sent
        assert isinstance(msg["err"], str) and msg["err"]


async def test_a_signal_has_no_answer(raw):
    _, _, wire = await raw.pair()
    for signum in (1, 2, 9, 10, 15, 16, 34, 64):
        name = f"p{signum}"
        await wire.start(**{name: sleeper()})
        await wire.send("ProcSignalRequest", proc_id=name, signum=signum)
        status = (await wire.ended())[name]["status"]
        assert status["signum"] == signum


async def test_a_signal_to_an_exited_process_is_an_error(raw):
    """Existing clients compare its text, `no process`."""
    _, _, wire = await raw.pair()
    await wire.start(p=argv(TRUE))
    await wire.ended()
    sent = await wire.send("ProcSignalRequest", proc_id="p", signum=15)
    assert await wire.expect("RequestError") == {"type": "RequestError", "msg": sent, "err": "no process"}


async def test_a_suspended_process_is_running(raw):
    _, _, wire = await raw.pair()
    await wire.start(p=sleeper())
    await wire.send("ProcSignalRequest", proc_id="p", signum=int(signal.SIGSTOP))
    while True:
        await wire.send("ProcResultRequest", proc_id="p")
        res = check_message(await wire.expect("ProcResult"))
        assert res["state"] == "running"
        if res["proc_stat"]["state"] == "T":
            break
    await wire.send("ProcSignalRequest", proc_id="p", signum=int(signal.SIGCONT))
    await wire.send("ProcSignalRequest", proc_id="p", signum=int(signal.SIGTERM))
    assert (await wire.ended())["p"]["status"]["signum"] == 15


async def test_an_exited_process_can_be_deleted_once(raw):
    """A running process cannot be deleted; after the deletion the ID is free."""
    _, _, wire = await raw.pair()
    await wire.start(p=sleeper())
    sent = await wire.send("ProcDeleteRequest", proc_id="p")
    msg = await wire.expect("RequestError", msg=sent)
    assert set(msg) == {"type", "msg", "err"}
    await wire.send("ProcSignalRequest", proc_id="p", signum=9)
    await wire.ended()
    await wire.delete("p")
    assert (await wire.start(p=argv(TRUE)))["p"]["state"] == "running"
    await wire.ended()
    await wire.delete("p")
    assert await wire.barrier() == []


async def test_answers_to_deletions_are_in_order(raw):
    _, _, wire = await raw.pair()
    names = [f"p{n}" for n in range(200)]
    await wire.start(**{n: argv("/nonexistent") for n in names[:1]})
    await wire.ended()
    await wire.send("ProcStartRequest", specs={n: argv(TRUE) for n in names[1:]})
    for _ in range(2 * 199):
        await wire.expect("ProcResult")
    for name in names:
        await wire.send("ProcDeleteRequest", proc_id=name)
    for name in names:
        assert await wire.next() == {"type": "ProcDelete", "proc_id": name}


async def test_answers_of_different_types_are_in_order(raw):
    _, _, wire = await raw.pair()
    await wire.start(p=sh("head -c 3000000 /dev/zero"))
    await wire.ended()
    for num in range(30):
        await wire.send("ProcFdDataRequest", proc_id="p", fd="stdout", start=num, stop=None)
        await wire.send("ProcidListRequest")
        await wire.send("ProcResultRequest", proc_id="p")
        await wire.send("ProcSignalRequest", proc_id="p", signum=9)
    for num in range(30):
        assert (await wire.expect("ProcFdData"))["start"] == num
        assert await wire.next() == {"type": "ProcidList", "proc_ids": ["p"]}
        await wire.expect("ProcResult")
        await wire.expect("RequestError", err="no process")


UNKNOWN_REQUESTS = {
    "ProcResultRequest": {},
    "ProcSignalRequest": {"signum": 15},
    "ProcFdDataRequest": {"fd": "stdout", "start": 0, "stop": None},
    "ProcDeleteRequest": {},
}


@pytest.mark.parametrize("type", UNKNOWN_REQUESTS)
async def test_an_unknown_id_is_reported_once(raw, type):
    """The package's server would drop the connection on a second answer."""
    _, _, wire = await raw.pair()
    await wire.send(type, proc_id="nobody", **UNKNOWN_REQUESTS[type])
    assert await wire.next() == {"type": "ProcUnknown", "proc_id": "nobody"}
    for again, fields in UNKNOWN_REQUESTS.items():
        await wire.send(again, proc_id="nobody", **fields)
    assert await wire.barrier() == []
    # A new process with this ID is answered; after its deletion the ID is reported once more.
    await wire.start(nobody=argv(TRUE))
    await wire.ended()
    await wire.send("ProcResultRequest", proc_id="nobody")
    await wire.expect("ProcResult", proc_id="nobody")
    await wire.delete("nobody")
    await wire.send(type, proc_id="nobody", **UNKNOWN_REQUESTS[type])
    assert await wire.barrier() == []


async def test_the_list_of_ids_has_all_processes_that_are_not_deleted(raw):
    _, _, wire = await raw.pair()
    await wire.send("ProcidListRequest")
    assert await wire.next() == {"type": "ProcidList", "proc_ids": []}
    ids = ["a b", "日本", "x/y"]
    await wire.send("ProcStartRequest", specs={i: argv(TRUE) for i in ids})
    for _ in range(6):
        await wire.expect("ProcResult")
    await wire.send("ProcidListRequest")
    msg = await wire.next()
    assert set(msg) == {"type", "proc_ids"} and sorted(msg["proc_ids"]) == sorted(ids)
    await wire.delete("a b")
    await wire.send("ProcidListRequest")
    assert sorted((await wire.next())["proc_ids"]) == sorted(ids[1:])


GOOD = {"argv": ["/usr/bin/touch", "MARKER"]}


@pytest.mark.parametrize(
    "specs, says",
    [
        ({"a": GOOD, "b": {"argv": [TRUE], "unknown": 1}}, "unknown"),
        ({"a": GOOD, "b": {"argv": []}}, "specs.b"),
        ({"a": GOOD, "b": {"argv": [TRUE, "\0"]}}, "specs.b.argv[1]"),
        ({"a": GOOD, "b": 3}, "specs.b"),
        ({"a": GOOD, "b": {"argv": [TRUE], "fds": [["stdout", "pipe-write"]]}}, "specs.b.fds[0]"),
        ({"a": GOOD, "b": {"argv": [TRUE], "fds": [["1", "close"], ["stdout", "close"]]}}, "specs.b.fds[1]"),
        ({"a": GOOD, "taken": {"argv": [TRUE]}}, "taken"),
    ],
)
async def test_a_refused_request_starts_nothing(raw, tmp_path, specs, says):
    """The error has the whole request; the next one works."""
    _, _, wire = await raw.pair()
    await wire.start(taken=sleeper())
    marker = tmp_path / "started"
    specs = {i: s | {"argv": [s["argv"][0], str(marker)]} if s is GOOD else s for i, s in specs.items()}
    sent = await wire.send("ProcStartRequest", specs=specs)
    msg = await wire.next()
    assert set(msg) == {"type", "msg", "err"}
    assert msg["type"] == "RequestError"
    assert msg["msg"] == sent
    assert says in msg["err"]
    await wire.start(a=argv(TRUE))
    await wire.ended()
    await wire.send("ProcidListRequest")
    assert sorted((await wire.next())["proc_ids"]) == ["a", "taken"]
    assert not marker.exists()


async def test_an_id_is_in_use_until_its_process_is_deleted(raw):
    """The end of the process does not free the ID."""
    _, _, wire = await raw.pair()
    await wire.start(p=argv(TRUE))
    await wire.ended()
    sent = await wire.send("ProcStartRequest", specs={"p": argv(TRUE)})
    await wire.expect("RequestError", msg=sent)
    await wire.delete("p")
    await wire.start(p=argv(TRUE))
    await wire.ended()


async def test_an_empty_start_request_has_no_answer(raw):
    _, _, wire = await raw.pair()
    await wire.send("ProcStartRequest", specs={})
    assert await wire.barrier() == []


async def test_a_process_does_not_inherit_the_agents_secrets(raw):
    _, agent, wire = await raw.pair()
    await wire.start(p=argv("/usr/bin/env", fds=[["stdout", capture()]]))
    text = captured((await wire.ended())["p"]).decode()
    assert "PATH=" in text
    assert TOKEN not in text and "PROCSTAR_AGENT_" not in text
    assert not any(TOKEN in line for line in agent.log)


async def test_an_error_names_all_faults_of_a_request(raw):
    """Each fault has its position. An ID that cannot be part of a path is one of them."""
    _, _, wire = await raw.pair()
    long = "x" * 70_000
    specs = {
        "a": {"argv": [TRUE], "unknown": 1, "cwd": 7}, "b": 3, "": {"argv": [TRUE]}, long: {"argv": [TRUE]},
        "c": {"argv": [TRUE], "fds": [["1", {"capture": {"mode": "memry"}}]]},
    }
    sent = await wire.send("ProcStartRequest", specs=specs)
    msg = await wire.next()
    assert (msg["type"], msg["msg"]) == ("RequestError", sent)
    for part in [
        "specs.a.unknown: unknown key `unknown`", "specs.a.cwd: invalid type: integer `7`, expected a string",
        "specs.b: invalid type: integer `3`, expected an object", 'specs[""]: invalid process ID of 0 bytes: expected 1 to 4096',
        "invalid process ID of 70000 bytes: expected 1 to 4096", "specs.c.fds[0][1].capture.mode: unknown variant `memry`",
    ]:
        assert part in msg["err"], msg["err"]
    assert len(msg["err"]) < 5000
