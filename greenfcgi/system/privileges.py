"""Privileges dropped: from root to `user` and `group`, and files that root creates given to them.

They may not be able to read the server's own files, where root has installed it for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from typing import NamedTuple

from ..config.load import Config
from ..errors import ConfigError
from ..logs.text import escape


class Identity(NamedTuple):
    """A user and a group by their numbers, -1: no change. `user` is the user's name, or ""."""

    user: str
    uid: int
    gid: int

    def own(self, file: str | int) -> None:
        """Give a file, by its path or descriptor, to this user and group. Raises `OSError`."""
        if (self.uid, self.gid) == (-1, -1):
            return
        if isinstance(file, int):
            os.fchown(file, self.uid, self.gid)
        else:
            os.chown(file, self.uid, self.gid, follow_symlinks=False)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Be this user and group while the block runs, as far as permissions go. Raises `OSError`."""
        if (self.uid, self.gid) == (-1, -1):
            yield
            return
        group, groups = os.getegid(), os.getgroups()
        try:
            if self.gid != -1:
                self._set_groups()
                os.setegid(self.gid)
            if self.uid != -1:
                os.seteuid(self.uid)
            yield
        finally:
            os.seteuid(os.getuid())
            os.setegid(group)
            os.setgroups(groups)

    def assume(self) -> None:
        """Become this user and group, for good. Raises `ConfigError` when that is not allowed."""
        try:
            if self.gid != -1:
                self._set_groups()
                os.setgid(self.gid)
            if self.uid != -1:
                os.setuid(self.uid)
        except OSError as problem:
            what = f'user: cannot become "{self.user}"' if self.user else f"group: cannot take group {self.gid}"
            raise ConfigError(f"{what}: {problem.strerror}") from None
        if self.user:
            import pwd

            os.environ |= {"USER": self.user, "LOGNAME": self.user, "HOME": pwd.getpwnam(self.user).pw_dir}

    def _set_groups(self) -> None:
        """Take all groups of the user, or the group alone where no user is named. Raises `OSError`."""
        if self.user:
            os.initgroups(self.user, self.gid)
        else:
            os.setgroups([self.gid])


def resolve_identity(config: Config) -> Identity:
    """The identity that `user` and `group` name. Raises `ConfigError` when this process cannot assume it."""
    uid = gid = -1
    if config.user:
        import pwd

        uid, gid = pwd.getpwnam(config.user)[2:4]
    if config.group:
        import grp

        gid = grp.getgrnam(config.group).gr_gid
    if os.geteuid() == 0:
        return Identity(config.user, uid, gid)
    if uid not in (-1, os.geteuid()):
        raise ConfigError(f'user: found "{config.user}", but only root can become another user; expected "" or root')
    if gid not in (-1, os.getegid()):
        raise ConfigError(f'group: found "{config.group}", but only root can take another group; expected "" or root')
    return Identity("", -1, -1)


def may(path: str, how: int) -> bool:
    """As `os.access`, as whom the process acts."""
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def prepare_logs(config: Config, identity: Identity) -> None:
    """Create the log files that are missing, so that the user who runs scripts can append to them. Never raises.

    A file that exists keeps its owner: root must not give away what somebody has put in its place.
    """
    for path in (config.errorlog, config.accesslog, config.slowlog):
        if path not in ("", "-"):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            except OSError:
                # It exists, or whoever opens it for writing reports why not.
                continue
            try:
                identity.own(descriptor)
            except OSError:
                # The same.
                pass
            finally:
                os.close(descriptor)


def closed_folder(identity: Identity) -> str:
    """A folder of the server's own files that this user may not read, as below /root; "" where there is none."""
    if (identity.uid, identity.gid) == (-1, -1):
        return ""
    try:
        # Found before: that user may not see them.
        folders = [*_own_folders()]
        with identity.acting():
            return next((folder for folder in folders if not may(folder, os.R_OK | os.X_OK)), "")
    except OSError:
        # Whoever becomes this user says why that fails.
        return ""


def remarks_on_reading(identity: Identity) -> list[tuple[str, str]]:
    """What an operator should know of it: (level, text) for the error log."""
    folder = closed_folder(identity)
    if not folder:
        return []
    who = f'user "{identity.user}"' if identity.user else f"group {identity.gid}"
    text = (
        f'{who} may not read "{escape(folder)}", which the server needs: all that scripts may require is loaded at the '
        "start, which takes memory, and [modules] can import nothing more from there; install greenfcgi and its Python "
        "where that user may read them (pipx install --global greenfcgi)"
    )
    return [("warning", text)]


def _own_folders() -> Iterator[str]:
    """Python's own library, where packages are that the server needs, and the server's package."""
    yield os.path.dirname(os.__file__)
    # Not imported, as the supervisor stays without.
    gevent = PathFinder.find_spec("gevent")
    if gevent is not None and gevent.origin:
        yield os.path.dirname(gevent.origin)
    yield os.path.dirname(os.path.dirname(__file__))
