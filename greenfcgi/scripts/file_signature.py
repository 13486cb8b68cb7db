"""Signatures and digests of files: is this still the file that was read?

It reads no files, and does not know why anybody asks.
"""

import os
import time
from collections.abc import Mapping

try:
    # hashlib brings OpenSSL: 3.7 MB of memory.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

#: (time of modification in ns, size in bytes, inode number, time of the last change of any kind in ns); None stands for
#: a file that is not there.
Signature = tuple[int, int, int, int] | None

#: Bytes of a digest.
DIGEST_SIZE = 16
#: Two changes that are no further apart may have the same time: a tick of the file system's clock on older kernels.
_TICK = 20_000_000


def signature(path: str) -> Signature:
    """What `path` looks like now, symbolic links followed; None when it is missing or cannot be looked at."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def settled(found: Signature) -> Signature:
    """`found`, to be noted for a file that is about to be read.

    Where the file has changed just now, another change may follow that leaves the times as they are: then what is noted
    differs from what the next look finds, and the text decides.
    """
    if found is not None and time.time_ns() - found[3] < _TICK:
        return *found[:3], 0
    return found


def looks_alike(one: Signature, other: Signature) -> bool:
    """Whether two signatures differ at most in the last time, which other rights or another link to the file change.

    So does a text of the same length to which somebody gives the time of the one before.
    """
    return one == other or (one is not None and other is not None and one[:3] == other[:3])


def changed(known: Mapping[str, Signature]) -> set[str]:
    """The paths in `known` that no longer look as noted. Blocks for one system call, 1 to 2 us, each."""
    return {path for path, noted in known.items() if signature(path) != noted}


def digest(data: bytes) -> bytes:
    """A digest of `data`, `DIGEST_SIZE` bytes."""
    return blake2b(data, digest_size=DIGEST_SIZE).digest()
