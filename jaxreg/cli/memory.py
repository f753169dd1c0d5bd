"""How the C library keeps memory that was freed."""

import ctypes
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's mallopt
_ARENAS = 2


def share_arenas() -> None:
    """Lets all threads allocate from two arenas, where the C library is glibc.

    By default each thread, up to eight a core, has an arena of its own, and what is freed in one
    serves no other: a process that registered ten pairs of 2 mm held 1.75 GiB at the end and 2.4 at
    most, with two arenas 1.1 and 1.6. To be called before threads are started.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt"):
        library.mallopt(_ARENA_MAX, _ARENAS)
