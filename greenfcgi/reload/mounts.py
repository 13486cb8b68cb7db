"""Which folders lie on a file system that another machine can change without this kernel's knowledge.

There inotify silently misses changes. The kernel's list of mounts says which ones these are; where it cannot be read,
all are taken to be local. No file system is asked, changed or watched here.
"""

import re

#: Linux's list of mounts.
MOUNTINFO = "/proc/self/mountinfo"

# After the list in coreutils, whose `tail -f` has the same choice to make.
_SILENT = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "prl_fs", "vboxsf", "virtiofs"}
)
_SILENT_PREFIXES = ("fuse.", "smb")


def require_events(folder: str, with_below: bool) -> None:
    """Raise OSError when `folder`, a real path, has a file system on which inotify misses changes.

    `with_below`: file systems mounted below it matter, too.
    """
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            kind = silent_filesystem(folder, file.read(), with_below)
    except OSError:
        return
    if kind:
        raise OSError(None, f"another machine may change files on {kind} unnoticed", folder)


def mount_points() -> frozenset[str]:
    """Where something is mounted: folders, and files that are mounted by themselves. Empty where that is not known."""
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            return frozenset(_mounts(file.read()))
    except OSError:
        return frozenset()


def silent_filesystem(folder: str, mountinfo: str, with_below: bool) -> str:
    """The type of a file system without events for all changes: `folder`'s, or one below it; "" when there is none.

    `folder` is a real path, `mountinfo` the text of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    inside = folder.rstrip("/") + "/"
    mounts = _mounts(mountinfo)
    above = [point for point in mounts if inside.startswith(point.rstrip("/") + "/")]
    below = [point for point in mounts if point.startswith(inside)] if with_below else []
    kinds = [mounts[point] for point in sorted(above, key=len)[-1:] + below]
    return next((kind for kind in kinds if kind in _SILENT or kind.startswith(_SILENT_PREFIXES)), "")


def _mounts(mountinfo: str) -> dict[str, str]:
    """The mount points with their types of file system; of several at one place, the last one counts."""
    mounts: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) > 4 and right:
            mounts[_unescaped(fields[4])] = right.split(" ")[0]
    return mounts


def _unescaped(field: str) -> str:
    """`field` with the kernel's octal escapes (of space, tab, newline and backslash) resolved."""
    if "\\" not in field:
        return field
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
