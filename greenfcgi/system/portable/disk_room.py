"""Room for a file that is written through memory: a page that cannot be had later would end the process."""

from __future__ import annotations

import errno
import os

#: Of posix_fallocate where the file system cannot do it, such as ZFS.
_CANNOT = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)
#: st_blocks counts in these.
_BLOCK = 512


def reserve(file: int, size: int) -> None:
    """Have the file take all of its `size` bytes now. Raises `OSError` where the file system has less room.

    OpenBSD and macOS cannot reserve it: there is room now, and others may take it.
    """
    try:
        os.posix_fallocate(file, 0, size)
        return
    except AttributeError:
        pass
    except OSError as problem:
        if problem.errno not in _CANNOT:
            raise
    there = os.fstatvfs(file)
    if there.f_bavail * there.f_frsize < size - os.fstat(file).st_blocks * _BLOCK:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
