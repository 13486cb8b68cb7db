"""What `--init` can make: for each target what it is for, and its files."""

from __future__ import annotations

from typing import NamedTuple


class File(NamedTuple):
    """A file of a target: its template below `templates/`, where it goes below the directory, and its mode."""

    template: str
    path: str
    mode: int = 0o644


class Target(NamedTuple):
    """Something to make. Without `needs_config` its files depend on no configuration."""

    summary: str
    files: tuple[File, ...]
    needs_config: bool = True


TARGETS = {
    "nginx": Target("a server block for nginx", (File("nginx.conf", "greenfcgi.conf"),)),
    "lighttpd": Target("a configuration for lighttpd", (File("lighttpd.conf", "greenfcgi.conf"),)),
    "systemd": Target(
        "a service and a socket of systemd",
        (
            File("greenfcgi.service", "greenfcgi.service"),
            File("greenfcgi.socket", "greenfcgi.socket"),
        ),
    ),
    "small": Target("a config.toml for a box with 64 MB", (File("small.toml", "config.toml"),), needs_config=False),
}
