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


_SITE = (
    "config.toml", "lua_scripts/index.lua", "lua_scripts/_lib/notes.lua", "lua_scripts/views/layout.html",
    "lua_scripts/views/index.html", "lua_scripts/public/style.css", "lua_scripts/public/icon.svg",
)  # fmt: skip

TARGETS = {
    "site": Target(
        "a small site: a page with a form and a database",
        (*(File(f"site/{path}", path) for path in _SITE), File("site/data/gitignore", "data/.gitignore")),
        needs_config=False,
    ),
    "nginx": Target("a server block for nginx", (File("nginx.conf", "greenfcgi.conf"),)),
    "lighttpd": Target("a configuration for lighttpd", (File("lighttpd.conf", "greenfcgi.conf"),)),
    "apache": Target("a virtual host's part for Apache", (File("apache.conf", "greenfcgi.conf"),)),
    "caddy": Target("a site for Caddy", (File("Caddyfile", "Caddyfile"),)),
    "haproxy": Target("a configuration for HAProxy", (File("haproxy.cfg", "haproxy.cfg"),)),
    "systemd": Target(
        "services and sockets of systemd, for one site and for many",
        (
            File("greenfcgi.service", "greenfcgi.service"),
            File("greenfcgi.socket", "greenfcgi.socket"),
            File("greenfcgi@.service", "greenfcgi@.service"),
            File("greenfcgi@.socket", "greenfcgi@.socket"),
        ),
    ),
    "openrc": Target("a service of OpenRC: Alpine, Gentoo", (File("openrc", "greenfcgi", 0o755),)),
    "freebsd": Target("a service of FreeBSD's rc.d", (File("freebsd", "greenfcgi", 0o755),)),
    "docker": Target(
        "an image of the site",
        (
            File("Dockerfile", "Dockerfile"),
            File("Dockerfile.dockerignore", "Dockerfile.dockerignore"),
        ),
    ),
    "machines": Target(
        "several machines behind HAProxy or nginx, with a Redis for what they share",
        tuple(File(f"machines/{name}", name) for name in ("haproxy.cfg", "nginx.conf", "machine.toml")),
    ),
    "logrotate": Target("logs that are rotated by logrotate", (File("logrotate.conf", "greenfcgi"),)),
    "small": Target("a config.toml for a box with 64 MB", (File("small.toml", "config.toml"),), needs_config=False),
}
