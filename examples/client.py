#!/usr/bin/env python3
"""
A client of procstar's HTTP service, with the standard library only.

    procstar serve &
    python3 examples/client.py

It connects to 127.0.0.1:3000, or to PROCSTAR_URL with the token in PROCSTAR_HTTP_TOKEN.
"""

import json
import os
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode


class Error(Exception):
    """The service refused a request; `status` is the HTTP status, `details` has one text for each error."""

    def __init__(self, status, details):
        super().__init__(f"{status}: " + "; ".join(details))
        self.status = status
        self.details = details


class Client:
    def __init__(self, url=None, token=None):
        self.url = url or os.environ.get("PROCSTAR_URL", "http://127.0.0.1:3000")
        self.token = token or os.environ.get("PROCSTAR_HTTP_TOKEN")

    def request(self, method, *path, query=None, body=None):
        """Sends one request, and returns the body of the response."""
        url = self.url + "/" + "/".join(quote(part, safe="") for part in path)
        if query:
            url += "?" + urlencode(query)
        request = urllib.request.Request(url, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            errors = json.loads(error.read()).get("errors", [])
            raise Error(error.code, [e["detail"] for e in errors]) from None

    def start(self, specs):
        """Starts every process of `specs` (spec by ID), or none; returns the IDs."""
        return json.loads(self.request("POST", "procs", body={"specs": specs}))["data"]["proc_ids"]

    def result(self, proc_id, **query):
        """Returns the result as it is now."""
        query = {"output": "none", **query}
        return json.loads(self.request("GET", "procs", proc_id, query=query))["data"]["procs"][proc_id]

    def wait(self, proc_id):
        """Returns the final result."""
        while True:
            result = self.result(proc_id, wait=3600)
            if result["state"] != "running":
                return result

    def output(self, proc_id, fd="stdout"):
        """Returns the captured bytes."""
        return self.request("GET", "procs", proc_id, "output", fd, "data")

    def stop(self, proc_id):
        """Sends SIGTERM to the process and its descendants, and SIGKILL after the grace period."""
        self.request("POST", "procs", proc_id, "stop")

    def delete(self, proc_id):
        """Deletes the result and the output of a process that has ended."""
        self.request("DELETE", "procs", proc_id)

    def run(self, proc_id, spec):
        """Runs one process, and returns its result and what it wrote to stdout."""
        self.start({proc_id: spec})
        try:
            return self.wait(proc_id), self.output(proc_id)
        finally:
            self.delete(proc_id)

    def run_all(self, specs, at_once=8):
        """Runs every process of `specs`, at most `at_once` at a time; yields (ID, result, stdout) in order."""
        with ThreadPoolExecutor(at_once) as pool:
            for proc_id, (result, output) in zip(specs, pool.map(self.run, specs, specs.values())):
                yield proc_id, result, output


def main():
    capture = {"stdout": {"capture": {}}}
    specs = {
        f"square-{n}": {"argv": ["/bin/sh", "-c", f"echo $(({n} * {n}))"], "fds": capture}
        for n in range(10)
    }
    for proc_id, result, output in Client().run_all(specs, at_once=4):
        print(proc_id, result["reason"], result["status"]["exit_code"], output.decode().strip())


if __name__ == "__main__":
    main()
