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
    "apache": Target("a virtual host's part for Apache", (File("apache.conf", "greenfcgi.conf"),)),
    "caddy": Target("a site for Caddy", (File("Caddyfile", "Caddyfile"),)),
    "haproxy": Target("a configuration for HAProxy", (File("haproxy.cfg", "haproxy.cfg"),)),
    "systemd": Target(
        "a service and a socket of systemd",
        (
            File("greenfcgi.service", "greenfcgi.service"),
            File("greenfcgi.socket", "greenfcgi.socket"),
        ),
    ),
}
