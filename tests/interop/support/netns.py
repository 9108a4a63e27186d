"""A network of two hosts and one cable. The agent's host is a network namespace."""

import contextlib
import os
from pathlib import Path
import random
import shutil
import socket
import subprocess

NAME = "server.test"

# The longest TCP retransmission timeout in milliseconds, of the agent's host and of a socket
# (linux/tcp.h).
RETRY_WITHIN_MS = 1000
RTO_MAX = "/proc/sys/net/ipv4/tcp_rto_max_ms"
TCP_RTO_MAX_MS = 44


def retry_soon(peer):
    """Limits the retransmission timeout of a socket of this process, whatever was lost before."""
    with contextlib.suppress(OSError):  # before Linux 6.15
        peer.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, RETRY_WITHIN_MS)


def _run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"


def iptables():
    """Returns the iptables to use, the legacy one if there are both: kernels may lack the
    other's rules."""
    found = next(filter(None, map(shutil.which, ("iptables-legacy", "iptables"))), None)
    assert found, "missing command iptables: apt-get install iptables"
    return found


class Lab:
    """The namespace and the cable; on exit, both are removed."""

    def __init__(self):
        assert os.geteuid() == 0, "network namespaces need root: run the tests as root, for example in a container"
        assert shutil.which("ip"), "missing command ip: apt-get install iproute2"
        # Concurrent tests do the same: if two choose one name, the kernel refuses the second.
        self.name = f"procstar-{os.getpid()}-{random.randrange(1 << 16):04x}"
        self._subnet = f"10.{random.randrange(210, 250)}.{random.randrange(256)}"
        self._near, self._far = (f"ps{random.randrange(1 << 32):08x}{side}" for side in "ab")
        self._etc = Path("/etc/netns") / self.name
        # Addresses of the scheduler, the present one and one to move to.
        self.addresses = [f"{self._subnet}.1", f"{self._subnet}.3"]

    @property
    def prefix(self):
        """Command prefix that runs a program on the other host."""
        return ("ip", "netns", "exec", self.name)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            _run("ip", "netns", "add", self.name)
            stack.callback(self._remove)
            # `ip netns exec` mounts this file over /etc/hosts.
            self._etc.mkdir(parents=True)
            self.serve_at(self.addresses[0])
            _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name)
            for address in self.addresses:
                _run("ip", "address", "add", f"{address}/29", "dev", self._near)
            _run("ip", "link", "set", self._near, "up")
            self._inside("ip", "address", "add", f"{self._subnet}.2/29", "dev", self._far)
            self._inside("ip", "link", "set", "lo", "up")
            # TCP doubles its timeout up to two minutes: a few losses in a row would exceed any
            # deadline.
            self._inside("sh", "-c", f"! test -e {RTO_MAX} || echo {RETRY_WITHIN_MS} > {RTO_MAX}")
            self.mend()
            stack.pop_all()
        return self

    def __exit__(self, *_):
        self._remove()

    def _remove(self):
        # The kernel removes the cable with the namespace, after the end of the last process in it.
        subprocess.run(["ip", "link", "delete", self._near], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)
        shutil.rmtree(self._etc, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._etc.parent.rmdir()

    def _inside(self, *argv):
        _run(*self.prefix, *argv)

    def serve_at(self, address):
        """Changes the address of the scheduler's name. The file is mounted, so it is written in
        place."""
        with open(self._etc / "hosts", "w") as hosts:
            hosts.write(f"127.0.0.1 localhost\n{address} {NAME}\n")

    def cut(self):
        """Cuts the cable; the agent's host notices."""
        self._inside("ip", "link", "set", self._far, "down")

    def mend(self):
        """Joins the cable."""
        self._inside("ip", "link", "set", self._far, "up")

    def lose(self, part):
        """Drops this share of the packets to the agent at random and silently: 1 is all, 0 is
        none."""
        self._inside(iptables(), "-w", "-F", "INPUT")
        rule = (iptables(), "-w", "-A", "INPUT", "-i", self._far)
        if 0 < part < 1:
            self._inside(*rule, "-m", "statistic", "--mode", "random", "--probability", str(part), "-j", "DROP")
        elif part:
            self._inside(*rule, "-j", "DROP")

    def lost(self):
        """Number of packets lost since the last `lose`."""
        done = subprocess.run(
            [*self.prefix, iptables(), "-w", "-L", "INPUT", "-v", "-x", "-n"], capture_output=True, text=True, check=True
        )
        return sum(int(line.split()[0]) for line in done.stdout.splitlines() if "DROP" in line and line.split()[0].isdigit())


def certificate(directory):
    """Makes a certificate for `NAME` and its key."""
    cert, key = Path(directory) / "cert.pem", Path(directory) / "key.pem"
    _run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(cert),
    )  # fmt: skip
    return cert, key
