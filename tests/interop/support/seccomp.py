"""Runs a program with refused system calls, as older container runtimes do.

    python seccomp.py CALL,CALL ERRNO PROGRAM ARGUMENT...
"""

import ctypes
import errno
import os
import struct
import sys

# The same numbers on all architectures.
CALLS = {"pidfd_send_signal": 424, "pidfd_open": 434, "clone3": 435, "close_range": 436}


def program(calls, number):
    """The filter: these calls fail with this errno, all others are allowed."""
    step = lambda code, value, yes=0, no=0: struct.pack("HBBI", code, yes, no, value)
    compare = [step(0x15, CALLS[call], len(calls) - at) for at, call in enumerate(calls)]
    return [step(0x20, 0), *compare, step(0x06, 0x7FFF0000), step(0x06, 0x00050000 | number)]


def install(calls, number):
    """Applies the filter to this process and all programs that it executes."""
    steps = program(calls, number)
    code = ctypes.create_string_buffer(b"".join(steps))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    for args in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(Program(len(steps), ctypes.addressof(code))))):
        assert libc.prctl(*args) == 0, os.strerror(ctypes.get_errno())


if __name__ == "__main__":
    install(sys.argv[1].split(","), getattr(errno, sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])
