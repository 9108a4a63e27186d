"""A headless Chromium, driven by mouse and keys over its DevTools protocol."""

import base64
import contextlib
import itertools
import json
from pathlib import Path
import shutil
import signal
import subprocess
import tempfile
import time

from websockets.sync.client import connect

from . import oneshot
from .wait import DEADLINE, eventually

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps", "--metrics-recording-only",
    "--no-default-browser-check", "--hide-scrollbars=false", "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank",
)  # fmt: skip
KEYS = {
    "Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "ArrowDown": (40, ""), "ArrowUp": (38, ""), "ArrowLeft": (37, ""),
    "ArrowRight": (39, ""), "Home": (36, ""), "End": (35, ""), "PageDown": (34, ""), "PageUp": (33, ""), " ": (32, " "),
}  # fmt: skip


def binary():
    """Path of the browser."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "missing Chromium: tests/interop/run installs it"
    return found


def ui(svc, *args):
    """The URL that `procstar ui` prints for a service."""
    command = [oneshot.binary(), "ui", "--print", "--pid", str(svc.proc.pid), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Browser:
    """One browser with one page; on exit, it leaves nothing behind."""

    def __init__(self, *args):
        self.args = args

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.dir = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        home = {"HOME": self.dir.name, "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": self.dir.name}
        self.proc = subprocess.Popen(
            [binary(), f"--user-data-dir={self.dir.name}/data", *self.args, *ARGS],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=home,
        )  # fmt: skip
        try:
            port_file = Path(self.dir.name, "data", "DevToolsActivePort")
            lines = eventually(lambda: port_file.exists() and len(ls := port_file.read_text().split()) == 2 and ls, "the browser", deadline=40)
            url = f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            self.ws = self.stack.enter_context(connect(url, max_size=None, open_timeout=30, compression=None))
            self.ids = itertools.count(1)
            self.pages = {}
            return self
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_):
        self._end()

    def _end(self):
        self.stack.close()
        self.proc.send_signal(signal.SIGTERM)
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait(10)
        self.dir.cleanup()

    def page(self, url=None):
        """Opens a new page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        if url:
            page.goto(url)
        return page

    def call(self, method, session=None, **params):
        """Calls a method and returns its result; events in between go to their pages."""
        number = next(self.ids)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self.ws.send(json.dumps(message))
        while True:
            reply = json.loads(self.ws.recv(timeout=60))
            if reply.get("id") == number:
                assert "error" not in reply, (method, reply["error"])
                return reply["result"]
            if (page := self.pages.get(reply.get("sessionId"))) and "method" in reply:
                page.happened(reply["method"], reply["params"])


class Page:
    """One page."""

    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target
        # Errors: exceptions, refusals by the content security policy and others.
        self.errors = []
        self.requests = []

    def call(self, method, **params):
        """Calls a method of the page's session."""
        return self.browser.call(method, self.session, **params)

    def happened(self, method, params):
        """Handles an event."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def goto(self, url):
        """Opens a URL."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'", "the page")

    def _load_again(self):
        """Reloads the page if a concurrent test changed network interfaces and a part failed to
        load."""
        lost = [error for error in self.errors if "ERR_NETWORK_CHANGED" in error and "/ui/" in error]
        if lost:
            self.errors = [error for error in self.errors if error not in lost]
            self.call("Page.reload")

    def js(self, expression):
        """Returns the value of an expression, which may be a promise."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if details := done.get("exceptionDetails"):
            raise AssertionError(f"{expression[:300]}: {details.get('exception', {}).get('description') or details['text']}")
        return done["result"].get("value")

    def wait(self, expression, what=None, deadline=DEADLINE):
        """Waits until an expression is true, and returns its value."""
        end = time.monotonic() + deadline
        while not (value := self.js(expression)):
            self._load_again()
            if time.monotonic() > end:
                text = self.js("document.body.innerText")[:2000]
                raise AssertionError(f"not within {deadline} s: {what or expression}\n{self.errors}\n{text}")
            time.sleep(0.02)
        return value

    def text(self, selector):
        """Returns the text of an element, once the element exists."""
        return self.wait(f"document.querySelector({json.dumps(selector)})?.innerText?.trim() || ''", selector)

    def has(self, selector, text):
        """Waits until a visible element contains this text."""
        find = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.wait(f"{find}.some((e) => e.checkVisibility() && e.innerText.includes({json.dumps(text)}))", f"{text!r} in {selector}")

    def click(self, selector, text=""):
        """Clicks the visible part of an element with the mouse."""
        find = (
            f"(() => {{ const e = [...document.querySelectorAll({json.dumps(selector)})].find((e) => e.checkVisibility() && e.innerText.includes({json.dumps(text)}));"
            "if (!e) return null; e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        x, y = self.wait(find, f"{selector} {text} to click")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def wheel(self, selector, dy):
        """Turns the mouse wheel over an element."""
        x, y = self.js(f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()")
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=dy)

    def key(self, *keys, modifiers=0):
        """Presses keys, one after another."""
        for key in keys:
            code, text = KEYS.get(key, (ord(key.upper()) if len(key) == 1 else 0, key))
            shift = 8 if len(key) == 1 and key.isupper() else 0
            common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers | shift}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        """Types text into the focused element."""
        self.call("Input.insertText", text=text)

    def size(self, width, height, scale=1, mobile=False):
        """Sets the size of the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile)

    def scheme(self, name):
        """Sets the system's colour scheme, light or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path):
        """Writes a screenshot as PNG."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
