"""A BSD imitated on Linux, as far as Python sees it: what only Linux has is gone, and some calls fail as on BSD.

What is taken away is what any of FreeBSD, OpenBSD, NetBSD and macOS lacks, so that the imitation is poorer than each.
What is imitated: functions and constants that are missing; /proc, /sys, /dev/shm, and /dev/fd beyond the standard
streams; no inotify, no malloc_trim; the platform's name; no epoll in the event loop; limits (path of a unix socket,
atomic writes to a pipe, the number that stands for no limit); the errors of O_NOFOLLOW, of unlink on a folder, of a
full backlog. What is not: kqueue; accepted sockets that inherit O_NONBLOCK; what C code does by itself.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import functools
import io
import os
import re
import resource
import select
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

#: The name of the platform, as sys.platform has it.
PLATFORM = "freebsd14"
#: Of each module, the names that are gone, as one pattern.
MISSING: dict[ModuleType, str] = {
    os: r"waitid|waitid_result|P_(ALL|PID|PGID|PIDFD)|W(EXITED|NOWAIT|STOPPED)|pipe2|pidfd_open|PIDFD_\w+|memfd_create"
    r"|MFD_\w+|eventfd\w*|EFD_\w+|timerfd_\w+|TFD_\w+|splice|SPLICE_\w+|copy_file_range|sched_\w+|SCHED_\w+"
    r"|posix_fadvise|POSIX_FADV_\w+|posix_fallocate|\w+xattr|XATTR_\w+|O_(TMPFILE|PATH|DIRECT|NOATIME|LARGEFILE|RSYNC)"
    r"|getrandom|GRND_\w+|unshare|setns|CLONE_\w+|sendfile|preadv|pwritev|RWF_\w+|(get|set)res[ug]id"
    r"|ST_(?!RDONLY|NOSUID)\w+",
    socket: r"SOCK_(SEQPACKET|RDM|CLOEXEC|NONBLOCK)|SO_(PEERCRED|PASSCRED|PASSSEC|PEERSEC|DOMAIN|PROTOCOL|BINDTODEVICE)"
    r"|SO_(MARK|PRIORITY|INCOMING_CPU)|MSG_(NOSIGNAL|CMSG_CLOEXEC|ERRQUEUE|MORE|CONFIRM|FASTOPEN)"
    r"|TCP_(?!NODELAY|MAXSEG)\w+|AF_(PACKET|VSOCK|NETLINK|CAN|ALG|TIPC|RDS|QIPCRTR)|IP_(TRANSPARENT|BIND_ADDRESS_NO_PORT)"
    r"|(PACKET|CAN|ALG|TIPC|VMADDR|VM_SOCKETS|NETLINK|SO_VM|RDS|UDPLITE|SOL_CAN|SOL_ALG|SOL_TIPC|PF_CAN|J1939)\w*",
    select: r"epoll|EPOLL\w+",
    fcntl: r"F_(SET|GET)PIPE_SZ|F_OFD_\w+|F_ADD_SEALS|F_GET_SEALS|F_SEAL_\w+|F_NOTIFY|F_(SET|GET)(LEASE|SIG)|DN_\w+",
    signal: r"SIG(PWR|STKFLT|CLD|POLL|RTMIN|RTMAX)|pidfd_send_signal|sigtimedwait|sigwaitinfo",
    resource: r"prlimit|RLIMIT_(OFILE|SIGPENDING|MSGQUEUE|NICE|RTPRIO|RTTIME|AS)",
    time: r"CLOCK_(BOOTTIME|MONOTONIC_RAW|TAI)|pthread_getcpuclockid",
    errno: r"E(ADV|BADE|BADF[DT]|BADR|BADRQC|BADSLT|BFONT|CHRNG|COMM|DEADLOCK|DOTDOT|HWPOISON|ISNAM|KEY\w+|L2\w+|L3\w+)"
    r"|E(LIB\w+|LNRNG|MEDIUMTYPE|NAVAIL|NOANO|NOCSI|NODATA|NOKEY|NOMEDIUM|NONET|NOPKG|NOSR|NOSTR|NOTNAM|NOTUNIQ|REMCHG)"
    r"|E(REMOTEIO|RESTART|RFKILL|SRMNT|STRPIPE|TIME|UCLEAN|UNATCH|XFULL)",
}
#: Modules that cannot be imported.
NO_MODULES = ("inotify_simple", "spwd")
#: Functions of the C library that are Linux's, or glibc's.
NO_FUNCTIONS = re.compile(r"malloc_trim|mallopt|inotify_\w+|prctl|pidfd_\w+|memfd_create|epoll_\w+|signalfd|gettid")
#: Files that are not there.
_NO_FILE = re.compile(r"/proc(/|$)|/sys(/|$)|/dev/shm(/|$)|/dev/fd/(?![012]$)")
#: Functions that take a path first, and how many paths they take.
_WITH_PATH = dict.fromkeys(
    (
        "open", "stat", "lstat", "access", "readlink", "chmod", "chown", "mkdir", "rmdir", "unlink", "remove", "utime",
        "truncate", "statvfs", "chdir",
    ), 1
) | dict.fromkeys(("rename", "replace", "link", "symlink"), 2)  # fmt: skip
#: Bytes of the path of a unix socket, with its end, and of a write to a pipe that is atomic.
_SUN_PATH = 104
_PIPE_BUF = 512
#: What stands for no limit.
_INFINITY = 2**63 - 1


def install(callers: str = "") -> None:
    """Imitate a BSD in this process. `callers`: hide files only from modules whose names begin so, "" from all."""
    # sysconfig's data has the platform in its name.
    os.environ["_PYTHON_SYSCONFIGDATA_NAME"] = sysconfig._get_sysconfigdata_name()  # type: ignore[attr-defined]
    sys.platform = PLATFORM
    system = os.uname()
    os.uname = lambda: os.uname_result(("FreeBSD", system.nodename, "14.1-RELEASE", "FreeBSD 14.1-RELEASE", "amd64"))
    for module, pattern in MISSING.items():
        whole = re.compile(pattern)
        for name in [name for name in vars(module) if whole.fullmatch(name)]:
            delattr(module, name)
            if name in getattr(module, "__all__", ()):
                module.__all__.remove(name)
    for name in NO_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    selectors: Any = sys.modules.get("selectors")
    if selectors is not None and hasattr(selectors, "EpollSelector"):
        # Imported before.
        del selectors.EpollSelector
        selectors.DefaultSelector = selectors.PollSelector
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        # The same.
        tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    select.PIPE_BUF = _PIPE_BUF  # type: ignore[misc]
    _without_functions()
    _without_files(callers)
    _with_other_errors()
    _with_other_limits()
    _with_other_sockets()


def _without_functions() -> None:
    import ctypes

    found = ctypes.CDLL.__getattr__

    def look_up(library: ctypes.CDLL, name: str) -> Any:
        if NO_FUNCTIONS.fullmatch(name):
            raise AttributeError(f"undefined symbol: {name}")
        return found(library, name)

    ctypes.CDLL.__getattr__ = look_up  # type: ignore[method-assign]


def _without_files(callers: str) -> None:
    def is_hidden(path: object) -> bool:
        if isinstance(path, int) or path is None:
            return False
        try:
            text = os.fspath(path)  # type: ignore[call-overload]
        except TypeError:
            return False
        name = os.fsdecode(text)
        if not _NO_FILE.match(name):
            return False
        # The frame above is that of the function in the place of the real one.
        caller: str = sys._getframe(2).f_globals.get("__name__", "")
        return caller.startswith(callers)

    def hiding(real: Callable[..., Any], paths: int = 1) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*arguments: Any, **more: Any) -> Any:
            for path in arguments[:paths]:
                if is_hidden(path):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return real(*arguments, **more)

        return call

    for name, paths in _WITH_PATH.items():
        setattr(os, name, hiding(getattr(os, name), paths))
    # Not False: nobody may do anything with what is not there.
    access = os.access

    def may(path: Any, *arguments: Any, **more: Any) -> bool:
        try:
            return access(path, *arguments, **more)
        except FileNotFoundError:
            return False

    os.access = may
    for name in ("listdir", "scandir"):
        setattr(os, name, _listing(getattr(os, name), is_hidden))
    builtins.open = io.open = hiding(open)


def _listing(real: Callable[..., Any], is_hidden: Callable[[object], bool]) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(path: Any = ".") -> Any:
        if is_hidden(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if path == "/dev/fd":
            return ["0", "1", "2"]
        return real(path)

    return call


def _with_other_errors() -> None:
    opened, unlinked = os.open, os.unlink

    @functools.wraps(opened)
    def open_file(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        try:
            return opened(path, flags, *arguments, **more)
        except OSError as error:
            if error.errno == errno.ELOOP and flags & os.O_NOFOLLOW:
                raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), path) from None
            raise

    @functools.wraps(unlinked)
    def unlink(path: Any, **more: Any) -> None:
        try:
            unlinked(path, **more)
        except IsADirectoryError:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path) from None

    os.open, os.unlink, os.remove = open_file, unlink, unlink


def _with_other_limits() -> None:
    get, change = resource.getrlimit, resource.setrlimit
    linux = resource.RLIM_INFINITY

    def getrlimit(which: int) -> tuple[int, int]:
        soft, hard = get(which)
        return _INFINITY if soft == linux else soft, _INFINITY if hard == linux else hard

    def setrlimit(which: int, limits: tuple[int, int]) -> None:
        soft, hard = limits
        change(which, (linux if soft == _INFINITY else soft, linux if hard == _INFINITY else hard))

    resource.getrlimit, resource.setrlimit = getrlimit, setrlimit
    resource.RLIM_INFINITY = _INFINITY  # type: ignore[misc]


def _with_other_sockets() -> None:
    def checked(name: str) -> None:
        real = getattr(socket.socket, name)

        @functools.wraps(real)
        def call(self: socket.socket, address: Any) -> Any:
            if self.family == socket.AF_UNIX:
                path = os.fsencode(address)
                if path[:1] == b"\0":
                    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
                if len(path) >= _SUN_PATH:
                    raise OSError("AF_UNIX path too long")
            try:
                return real(self, address)
            except BlockingIOError as error:
                # A full backlog: Linux would have the caller wait.
                if self.family == socket.AF_UNIX and error.errno == errno.EAGAIN:
                    raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)) from None
                raise

        setattr(socket.socket, name, call)

    for name in ("bind", "connect", "connect_ex"):
        checked(name)


def environment() -> dict[str, str]:
    """The variables with which a program in Python, and all that it starts, has a BSD imitated."""
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "GEVENT_BACKEND": "poll"}
