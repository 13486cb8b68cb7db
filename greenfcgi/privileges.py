"""Who runs scripts: from root to the user and group of the configuration, and whose the files are that root makes."""

from __future__ import annotations

import os
from typing import NamedTuple

from .config import Config
from .errors import ConfigError


class Identity(NamedTuple):
    """A user and a group as the system knows them; -1: stay who you are. `user` is its name, or ""."""

    user: str
    uid: int
    gid: int

    def own(self, path: str) -> None:
        """Give a file to them. Raises `OSError`."""
        if (self.uid, self.gid) != (-1, -1):
            os.chown(path, self.uid, self.gid)

    def assume(self) -> None:
        """Become them, for good. Raises `OSError`."""
        if self.gid != -1:
            if self.user:
                os.initgroups(self.user, self.gid)
            else:
                os.setgroups([self.gid])
            os.setgid(self.gid)
        if self.uid != -1:
            os.setuid(self.uid)


def identity(config: Config) -> Identity:
    """Whom `user` and `group` name. Raises `ConfigError` when this process cannot become them."""
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


def prepare_logs(config: Config, who: Identity) -> None:
    """Make the log files that are not there, so that whoever runs scripts can append to them. Never raises."""
    for path in (config.errorlog, config.accesslog, config.slowlog):
        if path not in ("", "-"):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o640))
                who.own(path)
            except OSError:
                # Whoever opens it for writing says why.
                pass
