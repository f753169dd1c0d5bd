"""Memory of a process that works on one pair after the other."""

import subprocess
import sys

import pytest

ARENAS = """
import ctypes, sys, threading
import numpy as np
if sys.argv[1] == "shared":
    from jaxreg.cli.memory import share_arenas
    share_arenas()
together = threading.Barrier(8)
def work():
    together.wait()
    kept = [np.ones(3000) for _ in range(50)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
library = ctypes.CDLL(None)
if not hasattr(library, "malloc_info"):
    raise SystemExit("no glibc")
library.fopen.restype = ctypes.c_void_p
file = library.fopen(b"/dev/stdout", b"w")
library.malloc_info(0, ctypes.c_void_p(file))
library.fclose(ctypes.c_void_p(file))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no glibc")
def test_threads_share_two_arenas():
    counts = {}
    for way in ("shared", "default"):
        command = [sys.executable, "-c", ARENAS, way]
        run = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        if "no glibc" in run.stderr:
            pytest.skip("no glibc")
        counts[way] = run.stdout.count("<heap nr=")
    assert counts["shared"] <= 2 < counts["default"]
