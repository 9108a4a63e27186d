"""Sessions of a browser, in a real Chromium: protection against other programs, users and sites.

One test acts as another user, and is skipped without root.
"""

import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from support.browser import ui
from support.http import free_port
from support.specs import argv, sh
from support.survival import worker_pid
from support.wait import eventually

TOKEN = "8ePqYiqbZ4AnXB2hWx8WQg"
MALLORY = 65_001
SPEC = json.dumps({"specs": {"evil": argv("/bin/true")}})

# Answers every navigation itself, and sends requests to the service as instructed.
WORKER = """
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.mode === "navigate") event.respondWith(new Response("<title>worker</title><p>of the worker", { headers: { "Content-Type": "text/html" } }));
});
self.addEventListener("message", (event) => event.waitUntil((async () => {
  const [url, options] = event.data;
  let answer;
  try {
    const got = await fetch(url, options);
    answer = [got.status, got.type === "opaque" ? "" : await got.text()];
  } catch (error) {
    answer = [0, String(error)];
  }
  event.ports[0].postMessage(answer);
})()));
"""
PAGE = "<script>navigator.serviceWorker.register('/sw.js')</script>"


class Earlier(http.server.BaseHTTPRequestHandler):
    """The program that had the port first."""

    def do_GET(self):
        kind, text = ("text/javascript", WORKER) if self.path == "/sw.js" else ("text/html", PAGE)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Logs nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A server on both loopback addresses, because `localhost` names both."""

    address_family = socket.AF_INET6

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


@contextlib.contextmanager
def earlier(port):
    """Runs the earlier program."""
    with Server(("::", port), Earlier) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def infested(browser, origin):
    """A page of the earlier program, controlled by its worker."""
    page = browser.page(origin)
    page.wait("navigator.serviceWorker.controller?.state === 'activated'", "the worker")
    return page


def by_worker(page, url, **options):
    """The response to a request of the worker."""
    return page.js(
        f"new Promise((done) => {{ const c = new MessageChannel(); c.port1.onmessage = (e) => done(e.data);"
        f"navigator.serviceWorker.controller.postMessage([{json.dumps(url)}, {json.dumps(options)}], [c.port2]); }})"
    )


def test_a_service_worker_of_an_earlier_program_changes_nothing(service, browser):
    """The worker has any address of that program, and all knowledge except the session."""
    port, chromium = free_port(), browser()
    origins = [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]
    with earlier(port):
        for origin in origins:
            infested(chromium, f"{origin}/")
    svc = service(port=port)
    for origin in origins:
        page = chromium.page(f"{origin}/")
        assert page.js("document.title") == "worker", "the attack: the worker answers in our place"
        json_headers = {"Content-Type": "application/json"}
        status, text = by_worker(page, "/procs", method="POST", headers=json_headers, body=SPEC)
        assert svc.get("/procs") == {"procs": {}}
        assert status == 403 and "procstar ui" in text, text
        for mode in ("cors", "same-origin"):
            guess = json_headers | {"Procstar-Session": "f" * 80, "Authorization": "Bearer x"}
            assert by_worker(page, "/procs", method="POST", mode=mode, headers=guess, body=SPEC)[0] == 403
        by_worker(page, "/procs", method="POST", mode="no-cors", body=SPEC)
        for method, place in (("DELETE", "/procs?older_than=0"), ("POST", "/session-codes"), ("PUT", "/log-level")):
            assert by_worker(page, place, method=method)[0] == 403, place
        status, text = by_worker(page, "/sessions", method="POST", headers=json_headers, body=json.dumps({"code": "0" * 32}))
        assert status == 403 and "invalid code" in text, text
        # The effect of a form on a page that the worker made.
        page.js(
            "(() => { const f = document.createElement('form'); f.method = 'post'; f.action = '/procs'; f.enctype = 'text/plain';"
            f"const i = document.createElement('input'); i.name = {json.dumps(SPEC)}; f.append(i); document.body.append(f); f.submit(); }})()"
        )
    assert svc.get("/procs") == {"procs": {}}
    # The user's own page in the same browser: no worker has its address.
    url = ui(svc)
    page = chromium.page(url)
    page.has("#live-text", "live")
    assert page.js("[document.title, navigator.serviceWorker.controller, location.hash]") == ["procstar", None, ""]
    own = page.js("location.origin")
    assert re.fullmatch(rf"http://[0-9a-f]{{62}}\.localhost:{port}", own) and url.startswith(own)
    start(page, "mine")
    assert svc.result("mine")["state"] == "terminated"
    # The worker learns the address bar and the session itself: it is at another origin.
    session = page.js("sessionStorage['procstar-session']")
    worker = chromium.page(f"{origins[0]}/")
    stolen = {"Content-Type": "application/json", "Procstar-Session": session}
    assert by_worker(worker, "/procs", method="POST", headers=stolen, body=SPEC)[0] == 403
    assert by_worker(worker, f"{own}/procs", method="POST", headers=stolen, body=SPEC)[0] == 0
    assert by_worker(worker, f"{own}/procs")[0] == 0
    by_worker(worker, f"{own}/procs", method="POST", mode="no-cors", body=SPEC)
    assert list(svc.get("/procs")["procs"]) == ["mine"]
    # No worker is updated, and none is registered at the session's address.
    assert "rejected" in worker.js("navigator.serviceWorker.ready.then((r) => r.update()).then(() => 'updated', () => 'rejected')")
    assert page.js("navigator.serviceWorker.register('/ui/app.js').then(() => 'registered', () => 'rejected')") == "rejected"
    eventually(lambda: "no service workers" in svc.log(), "a line of the log")


def start(page, proc_id):
    """Starts a process by the page."""
    page.js("location.hash = '#/start'")
    page.has("h1", "Start processes")
    page.js("document.querySelector('#spec').select()")
    page.type(json.dumps({"specs": {proc_id: sh("echo done", ["stdout", {"capture": {}}])}}))
    page.key("Enter", modifiers=2)
    page.has(".title", proc_id)
    page.has(".output", "done")


def test_a_page_without_a_session_is_read_only(service, browser):
    """The page explains how to get a session, also if its code was used before."""
    svc, chromium = service(), browser()
    svc.post({"a": argv("/bin/true")})
    svc.result("a")
    page = chromium.page(f"http://127.0.0.1:{svc.port}/")
    page.has(".row", "a")
    page.has("#readonly", "read only")
    page.click("#readonly")
    page.has(".toast", "procstar ui")
    page.js("location.hash = '#/procs/a'")
    page.has(".title", "a")
    page.key("d")
    page.click("dialog button", "Delete")
    page.has("dialog", "run `procstar ui`")
    assert list(svc.get("/procs")["procs"]) == ["a"]

    url = ui(svc)
    first = chromium.page(url)
    first.has("#live-text", "live")
    assert not first.js("document.querySelector('#readonly').checkVisibility()")
    second = chromium.page(url)
    second.has(".toast", "invalid code")
    second.has(".row", "a")
    second.has("#readonly", "read only")
    assert first.js("document.cookie + location.href") == first.js("location.origin") + "/"
    # As after its lifetime.
    first.js("sessionStorage['procstar-session'] = sessionStorage['procstar-session'].replace(/./, '5')")
    first.js("location.hash = '#/procs/a'")
    first.has(".title", "a")
    first.key("d")
    first.click("dialog button", "Delete")
    first.has("dialog", "the session of this page has ended")
    first.has("#readonly", "read only")
    assert list(svc.get("/procs")["procs"]) == ["a"]


def test_pages_of_other_sites_read_nothing(service, browser):
    """The sites have another port or another host name; they can link to the page."""
    svc, port, chromium = service(), free_port(), browser("--disable-popup-blocking")
    with earlier(port):
        for number, host in enumerate(("127.0.0.1", "localhost"), 1):
            page = chromium.page(f"http://{host}:{port}/")
            page.js(f"fetch('http://127.0.0.1:{svc.port}/procs', {{mode: 'no-cors'}}).catch(() => 0)")
            page.js(f"new Promise((done) => {{ const i = new Image(); i.onerror = done; i.src = 'http://127.0.0.1:{svc.port}/ui/icon.svg'; }})")
            text = svc.http.get("/metrics").text
            assert f'procstar_http_refusals_total{{reason="site"}} {2 * number}\n' in text, text
            opener = f"window.opened = window.open('http://127.0.0.1:{svc.port}/'); new Promise((done) => {{ const look = () => opened.closed ? done(true) : setTimeout(look, 20); look(); }})"
            assert page.js(opener), "the page cuts off who has opened it: to that one it looks closed"
            page.js(f"location.href = 'http://127.0.0.1:{svc.port}/'")
            page.has("#live-text", "live")


def test_a_session_lasts_as_long_as_the_instance(service, browser):
    """It survives the end of a worker, but is not valid for another program on the port."""
    svc = service()
    page = browser().page(ui(svc))
    page.has("#live-text", "live")
    old = worker_pid(svc.proc.pid)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: worker_pid(svc.proc.pid) not in (None, old), "another agent")
    page.has("#live-text", "live")
    start(page, "a")
    svc.proc.send_signal(signal.SIGQUIT)
    svc.proc.wait(30)
    again = service(port=svc.port)
    write = "fetch('/procs', {method: 'POST', headers: {'Content-Type': 'application/json', 'Procstar-Session': sessionStorage['procstar-session']}, body: %s}).then((a) => a.status)"
    assert page.js(write % json.dumps(SPEC)) == 403
    assert again.get("/procs") == {"procs": {}}


def test_the_token_is_entered_only_without_earlier_programs(service, browser):
    """Every TCP connection needs the token here."""
    svc = service(env={"PROCSTAR_HTTP_REQUIRE_TOKEN": "true"}, token=TOKEN)
    chromium = browser()
    page = chromium.page(f"http://127.0.0.1:{svc.port}/")
    page.has(".banner", "run `procstar ui`")
    assert page.js("document.querySelectorAll('.banner input').length") == 0
    page = chromium.page(ui(svc))
    page.has(".banner", "asks for its HTTP token")
    page.type(TOKEN)
    page.key("Enter")
    page.has("#live-text", "live")
    start(page, "a")


def test_a_session_over_tls_uses_the_name_of_the_certificate(service, browser, tmp_path):
    """The instance's own user needs no token, but a session."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
            "-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    svc = service(env={"PROCSTAR_HTTP_TLS_CERT": str(tmp_path / "cert.pem"), "PROCSTAR_HTTP_TLS_KEY": str(tmp_path / "key.pem")})
    chromium = browser("--ignore-certificate-errors")
    page = chromium.page(f"https://localhost:{svc.port}/")
    page.has("#readonly", "read only")
    url = ui(svc)
    assert url.startswith(f"https://localhost:{svc.port}/#session=")
    assert ui(svc, "--host", "localhost").startswith(f"https://localhost:{svc.port}/")
    page = chromium.page(url)
    page.has("#live-text", "live")
    page.js("location.hash = '#/start'")
    page.has("h1", "Start processes")
    page.js("document.querySelector('#spec').select()")
    page.type(SPEC)
    page.key("Enter", modifiers=2)
    page.has(".title", "evil")
    connection = http.client.HTTPSConnection("localhost", svc.port, context=ssl._create_unverified_context())
    connection.request("GET", "/procs/evil")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stand in for another user")
def test_another_user_who_reads_the_url_gets_no_session(service):
    """Command lines are public, so the code in the URL is valid for its own user only."""
    svc = service()
    origin, code = ui(svc).split("/#session=")
    host = origin.removeprefix("http://").split(":")[0]

    def trade(**user):
        data = ["-H", "Content-Type: application/json", "-d", json.dumps({"code": code})]
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {host}", *data, f"http://127.0.0.1:{svc.port}/sessions"]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", **user).stdout

    assert trade(user=MALLORY, group=MALLORY, extra_groups=[]) == "403"
    assert trade() == "200"
    assert trade() == "403"
