"""How the process keeps memory that was freed: for a network on a CPU, most of a forward pass.

Each layer's output is allocated and freed again. By default glibc hands blocks of more than
128 KiB back to the system at once, which then clears every page anew: on EfficientNet-Lite0 with
batches of 64, over a third of the time.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process use freed memory again instead of returning it; whether it could be set.

    Only where the C library is glibc; elsewhere nothing changes. A program sets this for itself,
    so it is called by the command line and by its workers, and not by the library.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _LARGEST))
