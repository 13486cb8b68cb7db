"""Whether the process may make code: hardened systems refuse it, as systemd does with MemoryDenyWriteExecute=yes."""

from __future__ import annotations

import mmap


def may_make_code() -> bool:
    """Whether the system grants memory that is both writable and executable, as a compiler at run time needs it."""
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        return False
    return True
