"""The web UI in a real Chromium: by mouse and keys, in two sizes and two colour schemes."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

from support.browser import Browser, ui
from support.specs import SH, argv, capture, sh, until
from support.survival import worker_pid
from support.wait import eventually

STREAMS = ("stdin", {"null": {}}), ("stdout", capture("tempfile")), ("stderr", capture("tempfile"))
PIECES = [["stdout", {"capture": {"encoding": "utf-8", "chunk_times": True}}], ["stderr", {"capture": {"encoding": "utf-8", "chunk_times": True}}]]
# All visible text with too little contrast to its background.
FAINT = """(() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0]; if (/^color/.test(c)) n.splice(0, 3, ...n.slice(0, 3).map((v) => v * 255)); return n.length < 4 ? [...n, 1] : n; };
  const lum = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
  const behind = (e) => { const all = []; for (; e; e = e.parentElement) all.unshift(parse(getComputedStyle(e).backgroundColor)); return all.reduce((under, top) => over(top, under), [255, 255, 255]); };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility({visibilityProperty: true}) || e.closest(':disabled, noscript, .unseen, .skip, .probe, mark, [data-off]')) continue;
    const back = behind(e);
    const [a, b] = [lum(over(parse(getComputedStyle(e).color), back)), lum(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${e.className}: ${walk.currentNode.data.trim().slice(0, 40)}`);
  }
  return bad;
})()"""


def opened(browser, svc, place=""):
    """The page of a service, connected with a session."""
    page = browser().page(ui(svc))
    if place:
        page.js(f"location.hash = {json.dumps(place)}")
    page.size(1280, 800)
    page.has("#live-text", "live")
    return page


def untroubled(page, *expected):
    """Asserts that the page reported no other errors and contacted no other server."""
    errors = [error for error in page.errors if not any(text in error for text in expected)]
    assert not errors
    assert len({url.split("/")[2] for url in page.requests if not url.startswith("blob:")}) == 1, page.requests
    assert re.fullmatch(r"http://[0-9a-f]{62}\.localhost:\d+", page.js("location.origin"))


def at_the_end(page):
    """Waits until the end of the output is visible: rows are drawn with the next frame."""
    page.wait("(({scrollTop, clientHeight, scrollHeight}) => scrollHeight - scrollTop - clientHeight < 5)(document.querySelector('.output'))")


def mistakes():
    """The specs of the snapshot of mistakes, each with its messages from `validate`, `--print`, `start` and HTTP."""
    snapshot = pathlib.Path(__file__).parents[1] / "cli/mistakes.txt"
    for section in snapshot.read_text().split("\n\n"):
        title, *lines = section.strip().split("\n")
        messages = [line for line in lines if re.match(r"\d+:\d+: ", line)]
        if messages:
            yield title.removeprefix("## "), "\n".join(lines[: -len(messages)]), messages


def test_mistakes_have_the_same_messages_in_the_page(service, browser):
    """All errors at once, each with its position in front, as the other ways to check a spec print them."""
    page = opened(browser, service())
    page.has(".nothing", "Nothing runs here yet")
    page.key("c")
    page.has("h1", "Start processes")
    every = list(mistakes())
    assert len(every) > 20
    for title, spec, messages in every:
        page.js(f"(t => {{ t.focus(); t.value = {json.dumps(spec)}; t.dispatchEvent(new Event('input')); }})(document.querySelector('#spec'))")
        page.key("Enter", modifiers=2)
        page.wait("document.querySelector('.errors li') !== null", title)
        shown = page.js("[...document.querySelectorAll('.errors li')].map((e) => [e.querySelector('.place').textContent, e.lastChild.textContent])")
        assert [f"{place}: {text}" for place, text in shown] == messages, title
        lines = {message.split(":")[0] for message in messages}
        assert set(page.js("[...document.querySelectorAll('.numbers .bad')].map((e) => e.textContent)")) == lines, title


def test_a_process_goes_from_start_to_deletion(service, browser, tmp_path):
    """By keys and mouse: errors at their place, live output, changes in two steps."""
    svc = service()
    page = opened(browser, svc)
    page.has(".nothing", "Nothing runs here yet")
    page.key("c")
    page.has("h1", "Start processes")

    def write(text):
        page.js("document.querySelector('#spec').select()")
        page.type(text)
        page.key("Enter", modifiers=2)

    write('{"specs": {\n  "demo": {"argv": ["x"],\n    "fds": [["1", "close"],\n  ["stdout", "close"]]},\n  "b": {"argv": []}}}')
    page.has(".errors", "specs.demo.fds[1]: fd stdout given twice")
    assert page.js("[...document.querySelectorAll('.numbers .bad')].map((e) => e.textContent)") == ["4", "5"]
    page.click(".place", "5:")
    assert page.js("(t => t.value.slice(0, t.selectionStart).split('\\n').length)(document.querySelector('#spec'))") == 5
    write('{"specs": {]')
    page.has(".errors", "1:12")
    assert svc.get("/procs") == {"procs": {}}

    marker = tmp_path / "go on"
    script = f"trap 'echo bye; exit 7' TERM; i=0; while :; do i=$((i+1)); echo line $i; if [ $i -gt 100 ]; then while [ ! -e '{marker}' ]; do sleep 0.02; done; fi; sleep 0.001; done"
    write(json.dumps({"specs": {"demo": sh(script, *STREAMS, labels={"job": "1"})}}))
    page.has(".title", "demo")
    page.has(".output", "line 100")
    page.wait("!document.querySelector('.output').innerText.includes('line 1\\n')", "the end, not the beginning")
    at_the_end(page)
    asked = len(page.requests)
    marker.touch()
    page.has(".output", "line 150")
    assert [url for url in page.requests[asked:] if "/events" not in url] == []

    page.click("button", "Pause")
    page.has(".status", "paused")
    page.has(".status", "more below")
    page.key("f")
    page.has(".status", "following")
    at_the_end(page)

    page.key("s")
    page.has("dialog", "Stop demo?")
    page.key("Escape")
    page.wait("!document.querySelector('dialog')")
    page.click("button", "Signal…")
    page.type("NOSUCH")
    page.key("Enter")
    page.has("dialog", 'unknown signal "NOSUCH"')
    page.click("dialog button", "Cancel")
    assert svc.result("demo", ended=False)["state"] == "running"
    page.click(".actions button", "Stop…")
    page.type("TERM")
    page.key("Enter")
    page.has(".badge", "stopped, exit 7")
    page.has(".output", "bye")
    page.has(".status", "ended after")
    assert svc.result("demo")["reason"] == "stopped"

    page.key("4")
    page.has(".raw", '"reason": "stopped"')
    page.key("d")
    page.has("dialog", "cannot be undone")
    page.click("dialog button", "Delete")
    page.has(".nothing", "Nothing runs here yet")
    assert svc.get("/procs") == {"procs": {}}
    untroubled(page, "status of 400")


def test_10000_processes_are_listed_filtered_and_searched(service, browser):
    """Only visible rows exist."""
    svc = service("--restrict-exe", SH)
    # These need no fork.
    for n in range(0, 9_998, 1666):
        svc.post({f"p{i:05}": argv("/bin/false", labels={"n": str(i % 7), "team": "a"}) for i in range(n, min(9_998, n + 1666))})
    svc.post({"first": sh("sleep 1000 & wait", labels={"n": "x"}), "<b>second</b>": sh("echo '<img src=/none onerror=alert(1)>'; sleep 1000 & wait")})
    page = opened(browser, svc)
    page.has(".tally", "10,000 processes")
    assert 10 < page.js("document.querySelectorAll('.rows .row').length") < 60
    assert page.js("document.querySelector('.grid').getAttribute('aria-rowcount')") == "10001"
    assert page.js("document.querySelector('.rows .row .id').textContent") in ("first", "<b>second</b>")
    page.key("j", "End")
    page.has(".row.active", "p00000")
    page.wait("document.getElementById(document.querySelector('.grid').getAttribute('aria-activedescendant')).getAttribute('aria-rowindex') === '10001'")
    page.key("/")
    page.type("p0777 elsewhere")
    page.has(".tally", "0 of 10,000")
    page.js("document.querySelector('.search').select()")
    page.type("p0777 RESTRICTED")
    page.has(".tally", "10 of 10,000")
    page.key("Escape", "l")
    page.type("n=3 team")
    page.has(".tally", "1 of 10,000")
    page.has(".command", "restricted executable: /bin/sh")
    page.js("document.querySelectorAll('.search, [list=known-labels]').forEach((e) => { e.value = ''; e.dispatchEvent(new Event('input')); })")
    page.click(".choice", "Running")
    page.has(".tally", "2 of 10,000")
    # Figures arrive without requests, and are drawn as curves.
    page.wait("document.querySelector('.spark.memory .line')?.getAttribute('d')?.length > 10", "a curve")
    # Figures present at the end, without a request.
    asked = len(page.requests)
    svc.http.post("/procs/first/signals/KILL")
    page.has(".tally", "1 of 10,000")
    assert [url for url in page.requests[asked:] if "/events" not in url] == []
    page.click(".id", "<b>second</b>")
    page.has(".title", "<b>second</b>")
    page.has(".output", "<img src=/none onerror=alert(1)>")
    assert page.js("document.querySelectorAll('main img, main b').length") == 0
    page.key("Escape")
    page.click("button", "Clear ended…")
    page.has("dialog", "Every ended process is deleted")
    page.click("dialog button", "Clear")
    page.click(".choice", "All")
    page.wait("document.querySelector('.tally').innerText === '1 process'")
    untroubled(page)


def test_the_page_continues_after_a_worker_crash(service, browser, tmp_path):
    """And so does followed output."""
    svc = service()
    marker = tmp_path / "go on"
    svc.post({"a": sh(f"echo before; {until(marker)['argv'][2]}; echo after; sleep 1000 & wait", *STREAMS)})
    page = opened(browser, svc, "#/procs/a")
    page.has(".output", "before")
    old = worker_pid(svc.proc.pid)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: worker_pid(svc.proc.pid) not in (None, old), "another agent")
    marker.touch()
    page.has(".output", "after")
    page.has("#live-text", "live")
    assert page.js("document.querySelector('.lines').innerText.trim()") == "before\nafter"
    page.key("Escape")
    eventually(lambda: svc.http.get("/healthz").status_code == 200, "the service")
    svc.post({"b": sh("sleep 1000 & wait")})
    page.has(".tally", "2 processes")
    svc.http.post("/procs/b/stop", json={"signal": "KILL"})
    page.has(".badge", "stopped, SIGKILL")
    svc.http.post("/procs/a/stop", json={"signal": "KILL"})
    svc.result("a")
    # If nobody answers, the page shows that and keeps its data.
    svc.proc.send_signal(signal.SIGKILL)
    page.has(".banner", "No connection to the service")
    page.has(".tally", "2 processes")


def test_output_of_any_size_is_shown_and_searched(service, browser):
    """Only visible parts are fetched."""
    svc = service()
    lines = 1_500_000
    script = f"/usr/bin/seq -f 'line %.0f of many' {lines}; printf '\\033[1;31mred\\033[0m plain \\033[38;2;1;2;3mexact\\033[0m\\n10%%\\r20%%\\r100%%\\nend'"
    svc.post({"big": sh(script, *STREAMS)})
    length = svc.http.get("/procs/big?output=none&wait=60").json()["data"]["procs"]["big"]["captures"]["stdout"]["length"]
    assert length > 30_000_000
    page = opened(browser, svc, "#/procs/big")
    page.has(".line", "line 1 of many")
    page.key("G")
    page.has(".line", "end")
    assert page.js("document.querySelector('.line .f1.bold').textContent") == "red"
    assert page.js("[...document.querySelectorAll('.line span')].find((e) => e.textContent === 'exact').style.color") == "rgb(1, 2, 3)"
    assert "\n100%\nend" in page.js("document.querySelector('.lines').innerText")
    # The middle, by the slider, and rows beyond the fetched ones, by the wheel.
    page.js("(s => { s.value = String(s.max / 2); s.dispatchEvent(new Event('input')); })(document.querySelector('.slider'))")
    shown = "Number(document.querySelector('.line').textContent.match(/line (\\d+)/)[1])"
    page.wait(f"Math.abs({shown} - {lines / 2}) < 50000", "the middle")
    before = page.js(shown)
    for n in range(1, 5):
        # The visible part stays in place while earlier parts arrive, so the wheel turns on.
        page.wait(f"(document.querySelector('.output').scrollTop = 0, {shown}) < {before} - {n * 8000}", "what is before")
    page.wait("document.querySelector('.output').scrollTop > 0 && document.querySelectorAll('.line').length > 40")
    # No row is missing or repeated where fetched parts meet.
    numbers = page.js("[...document.querySelectorAll('.line')].map((e) => Number(e.textContent.match(/line (\\d+) of many/)[1]))")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    fetched = page.js("performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/data')).reduce((sum, e) => sum + e.transferSize, 0)")
    assert fetched < 6_000_000, fetched
    page.key("/")
    page.type(f"LINE {lines - 7} of")
    page.key("Enter")
    page.has(".found", "not found")
    page.js("document.querySelector('.searching input').select()")
    page.type(f"line {lines - 7} of")
    page.key("Enter")
    page.has(".found", "of 3")
    page.has(".line.hit mark", f"line {lines - 7} of")
    page.js("document.querySelector('.searching input').select()")
    page.type("line 77 of")
    page.key("Enter")
    page.has(".found", "from the beginning")
    page.has(".line.hit", "line 77 of many")
    assert page.js("document.querySelectorAll('.line').length") < 200
    untroubled(page)


def test_streams_are_shown_apart_and_interleaved(service, browser, tmp_path):
    """They are in the order of writing, while the process runs."""
    svc = service()
    marker = tmp_path / "go on"
    script = f"echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three; {until(marker)['argv'][2]}; echo four >&2; sleep 0.05; echo five"
    svc.post({"a": {"argv": [SH, "-c", script], "fds": PIECES}, "none": argv(SH, "-c", "sleep 1000 & wait")})
    page = opened(browser, svc, "#/procs/a")
    page.has(".output", "three")
    assert page.js("document.querySelector('.lines').innerText.trim()") == "one\nthree"
    page.key("o")
    page.has(".output", "two")
    assert page.js("document.querySelector('.lines').innerText.trim()") == "two"
    page.key("o")
    page.has(".output", "one")
    marker.touch()
    page.has(".output", "five")
    rows = page.js("[...document.querySelectorAll('.line')].map((e) => [e.dataset.fd, e.lastChild.textContent])")
    assert rows == [["stdout", "one"], ["stderr", "two"], ["stdout", "three"], ["stderr", "four"], ["stdout", "five"]]
    page.js("location.hash = '#/procs/none/output'")
    page.has(".viewer", "No descriptor of this process is captured")
    untroubled(page)


def test_samples_are_drawn_as_curves(service, browser):
    """This includes samples of processes that ended before."""
    svc = service(env={"PROCSTAR_SAMPLING_INTERVAL": "0.1"})
    svc.post({"busy": sh("while :; do :; done") | {"timeout": 1}})
    samples = svc.result("busy")["samples"]
    assert len(samples) > 3
    page = opened(browser, svc)
    page.wait("document.querySelector('.spark.cpu .line')?.getAttribute('d')", "a curve in the list")
    page.click(".id", "busy")
    page.has(".title", "busy")
    page.key("3")
    page.wait("document.querySelector('.chart.cpu .line')?.getAttribute('d')?.split('L').length > 3", "a chart")
    assert "at most" in page.js("document.querySelector('.chart.cpu .plot').getAttribute('aria-label')")
    untroubled(page)


def _own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # Sends nothing: this only chooses a route to a documentation address.
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but its loopback")
        return sock.getsockname()[0]


def test_the_page_asks_for_the_token(service, browser, tmp_path):
    """Over TLS from another address, only the page is served without the token."""
    address, token = _own_address(), "8ePqYiqbZ4AnXB2hWx8WQg"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
            "-subj", "/CN=test", "-addext", f"subjectAltName=IP:{address}"]  # fmt: skip
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    env = {"PROCSTAR_HTTP_TLS_CERT": str(tmp_path / "cert.pem"), "PROCSTAR_HTTP_TLS_KEY": str(tmp_path / "key.pem"), "PROCSTAR_HTTP_TOKEN": token}
    svc = service("--http-bind", "0.0.0.0", env=env)
    page = browser("--ignore-certificate-errors").page(f"https://{address}:{svc.port}/")
    page.has(".banner", "asks for its HTTP token")
    page.type("wrong")
    page.key("Enter")
    page.has(".banner", "does not take this token")
    page.type(token)
    page.key("Enter")
    page.has("#live-text", "live")
    page.has(".nothing", "Nothing runs here yet")
    page.key("c")
    page.has("h1", "Start processes")
    page.js("document.querySelector('#spec').select()")
    page.type(json.dumps({"specs": {"a": sh("echo out; sleep 1000 & wait")}}))
    page.key("Enter", modifiers=2)
    page.has(".output", "out")
    assert page.js("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    assert page.js("Object.values(sessionStorage)") == [token]
    assert not any(token in url for url in page.requests)
    assert all(url.startswith(f"https://{address}:{svc.port}/") for url in page.requests)


async def test_the_connection_to_the_scheduler_is_shown(raw, browser):
    server = await raw.server()
    agent = await raw.agent(server, "--serve", "--serve-port", "0")
    await server.connection()
    line = await agent.logged(r"127\.0\.0\.1 port=\d+")
    page = browser().page(f"http://127.0.0.1:{line.split('port=')[1].split()[0]}/")
    page.has("#server", "registered")
    assert "group default" in page.js("document.querySelector('#server').title")
    await server.stop()
    page.wait("document.querySelector('#server').dataset.state !== 'open'", "the loss")
    # Several in a row are counted.
    page.wait("document.querySelector('#server').title.includes('failed attempts in a row')", "the attempts")


def test_the_page_is_accessible(service, browser):
    """By keys and screen reader, light and dark, on desktop and phone."""
    svc = service()
    svc.post({"run": sh("echo out; echo err >&2; sleep 1000 & wait", labels={"team": "a"}), "bad": argv("/no/such/program"), "failed": sh("exit 3"), "good": sh("echo fine")})
    for proc_id in ("bad", "failed", "good"):
        svc.result(proc_id)
    page = opened(browser, svc)
    views = {"": ".row", "#/procs/run": ".line", "#/procs/bad/details": ".block", "#/procs/run/charts": ".plot svg", "#/procs/good/result": ".raw pre", "#/start": "#spec"}
    for width, height, mobile in ((1280, 800, False), (360, 740, True)):
        page.size(width, height, mobile=mobile)
        for colours in ("light", "dark"):
            page.scheme(colours)
            for place, sign in views.items():
                page.js(f"location.hash = {json.dumps(place or '#/')}")
                page.wait(f"!!document.querySelector({json.dumps(sign)})", sign)
                where = f"{place} {width} {colours}"
                assert page.js("document.documentElement.scrollWidth <= innerWidth"), where
                assert page.js("[...document.querySelectorAll('main button, main input, main a')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)") == [], where
                assert page.js(FAINT) == [], where
                nodes = page.call("Accessibility.getFullAXTree")["nodes"]
                kinds = ("button", "link", "textbox", "searchbox", "combobox", "slider", "tab", "grid", "checkbox", "radio", "spinbutton")
                nameless = [n for n in nodes if not n.get("ignored") and n["role"]["value"] in kinds and not n.get("name", {}).get("value")]
                assert not nameless, (where, nameless)
    page.size(1280, 800)
    page.goto(page.js("`${location.origin}/?anew`"))
    page.has(".row", "good")
    # Tab reaches every control, and the focus is visible.
    reached = []
    for _ in range(20):
        page.key("Tab")
        reached.append(page.js("(e => e.id || e.className || e.tagName)(document.activeElement)"))
        if reached[-1] != "BODY":
            assert page.js("(e => { e = e.type === 'radio' ? e.nextSibling : e; const s = getComputedStyle(e); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1; })(document.activeElement)"), reached
        if "grid" in reached[-1]:
            break
    assert {"skip", "brand", "go-start", "theme", "help", "grid"} <= set(reached), reached
    page.key("Home", "ArrowDown", "Enter")
    page.wait("location.hash.startsWith('#/procs/')")
    page.wait("document.activeElement.className === 'title'")
    page.key("Escape")
    page.wait("document.activeElement.className === 'grid'")
    # A choice is kept, also when the page is opened again.
    page.key("t", "t")
    assert page.js("document.documentElement.dataset.theme") == "dark"
    page.goto(page.js("`${location.origin}/?again`"))
    assert page.js("document.documentElement.dataset.theme") == "dark"
    page.key("?")
    page.has("dialog", "Keyboard")
    page.key("Escape")
    page.wait("!document.querySelector('dialog')")
    untroubled(page)


# Bytes of all kinds, more of those that matter to the layout.
LAYOUT = r"""(async () => {
  const { rowsOf } = await import("/ui/text.js");
  let seed = 7;
  const random = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
  const parts = ["\n", "\r", "\r\n", "\t", "a", "hello world ", "ä", "日本", "🚀", "e\u0301", "\u202e", "\x1b[31m", "\x1b[0m", "\x1b[1;38;5;200m", "\x1b[48;2;1;2;3m", "\x1b]8;;x\x07",
    "\x1b]0;title\x1b\\", "\x1b[2K", "\x1b(B", "\x1b", "\x1b[", "\x00", "\x7f", "x".repeat(95)].map((text) => new TextEncoder().encode(text));
  parts.push(new Uint8Array([0xff]), new Uint8Array([0xe2, 0x82]), new Uint8Array([0xed, 0xa0, 0x80]), new Uint8Array([0xc3]), new Uint8Array([0xf0, 0x9f]));
  const flat = (row) => JSON.stringify([row.at, row.end, row.text, row.columns, row.spans.map(({ text, style }) => [text, style.key])]);
  const join = (a, b) => { const c = new Uint8Array(a.length + b.length); c.set(a); c.set(b, a.length); return c; };
  let count = 0;
  for (let n = 0; n < 400; n += 1) {
    let bytes = new Uint8Array();
    for (let m = random(120); m >= 0; m -= 1) bytes = join(bytes, parts[random(parts.length)]);
    const columns = [20, 40, 2000][n % 3];
    const whole = rowsOf(bytes, 0, null, columns, { final: true }).rows;
    count += whole.length;
    whole.forEach((row, i) => {
      if (row.at !== (i ? whole[i - 1].end : 0) || row.end <= row.at) throw Error(`gap at ${row.at} of ${n}`);
      if (row.columns > columns && row.text.length > 8) throw Error(`wide: ${row.columns} in ${n}`);
      if (row.spans.map(({ text }) => text).join("") !== row.text) throw Error(`spans of ${n}`);
    });
    if (whole.at(-1).end !== bytes.length) throw Error(`end of ${n}`);
    // From any row on it is the same as from the beginning.
    const from = random(whole.length);
    const again = rowsOf(bytes.subarray(whole[from].at), whole[from].at, whole[from].style, columns, { final: true }).rows;
    if (again.map(flat).join() !== whole.slice(from).map(flat).join()) throw Error(`row ${from} of ${n}`);
    // And so it is piece by piece, as it comes.
    let [rows, tail, at] = [[], null, 0];
    while (at < bytes.length) {
      const some = bytes.subarray(at, at + 1 + random(30));
      const open = tail ? rows.pop() : null;
      const all = open ? join(tail, some) : some;
      at += some.length;
      const more = rowsOf(all, open ? open.at : at - some.length, open ? open.style : rows.at(-1) && last, columns, { final: at === bytes.length });
      var last = more.style;
      rows = rows.concat(more.rows);
      tail = rows.at(-1)?.open ? all.slice(rows.at(-1).at - (open ? open.at : at - some.length)) : null;
    }
    if (rows.map(flat).join() !== whole.map(flat).join()) throw Error(`pieces of ${n}: ${rows.map(flat).join("\n")}\n\n${whole.map(flat).join("\n")}`);
  }
  return count;
})()"""

SEARCH = r"""(async () => {
  const { search } = await import("/ui/search.js");
  const size = 9_000_000;
  const bytes = new Uint8Array(size).fill(46);
  const put = (text, at) => bytes.set(new TextEncoder().encode(text), at);
  // Across the edges of blocks, at both ends, and twice in a row.
  const places = [0, 7, (4 << 20) - 3, (8 << 20) - 1, size - 6];
  places.forEach((at) => put("NÄdle", at));
  const source = { length: size, read: async (from, to) => bytes.subarray(from, Math.min(to, size)) };
  const found = [];
  for (let at = -1; (at = await search(source, "NÄdle", at + 1, false, () => {})) !== null;) found.push(at);
  const back = [];
  for (let at = size; (at = await search(source, "NÄdle", at, true, () => {})) !== null;) back.push(at);
  if (found.join() !== places.join() || back.reverse().join() !== places.join()) throw Error(`${found} ${back}`);
  put("mIxEd", 100);
  const other = [await search(source, "mixed", 0, false, () => {}), await search(source, "Mixed", 0, false, () => {}), await search(source, "mIxEd", 0, false, () => {})];
  if (other.join() !== "100,,100") throw Error(String(other));
  return found.length;
})()"""


def test_text_and_search_are_exact(service, browser):
    """For any bytes in any chunks, each row has its position, and each match is found."""
    page = opened(browser, service())
    assert page.js(LAYOUT) > 3000
    assert page.js(SEARCH) == 5
    untroubled(page)


def test_a_flood_is_followed_to_its_end(service, browser, tmp_path):
    """A reader who scrolled back keeps the place."""
    svc = service()
    marker = tmp_path / "go on"
    flood = "for n in 1 2 3 4; do /usr/bin/seq -f \"round $n line %.0f of a flood\" 1 400000; done; echo settled"
    svc.post({"a": sh(f"{flood}; {until(marker)['argv'][2]}; {flood}; sleep 1000 & wait", *STREAMS)})
    page = opened(browser, svc, "#/procs/a")
    page.has(".output", "settled")
    page.has(".status", "following")
    assert page.js("document.querySelectorAll('.line').length") < 200
    page.wheel(".output", -400)
    page.has(".status", "paused")
    kept = page.js("document.querySelector('.lines').innerText")
    marker.touch()
    page.has(".status", "more below")
    page.wait("parseFloat(document.querySelector('.status').innerText.match(/([\\d.]+) MB more/)?.[1]) > 30", "a flood")
    assert page.js("document.querySelector('.lines').innerText") == kept
    page.click("button", "Follow")
    page.has(".output", "settled")
    assert svc.result("a", ended=False)["state"] == "running"
    untroubled(page)
