"""An address and the extensions of scripts, in the words of each web server."""

from __future__ import annotations

import os

from ..config.address import Address


def words(address: Address, extensions: tuple[str, ...]) -> dict[str, str]:
    """The places of templates that only web servers have: the address to connect to, the lists of extensions."""
    return _addresses(address) | _lists(address, extensions)


def _addresses(address: Address) -> dict[str, str]:
    """The address as each web server writes it; `socket` is "" for a TCP port."""
    host, port, path = address.host, str(address.port), address.path
    if address.kind == "unix":
        return {
            "socket": path,
            "socket_folder": os.path.dirname(path),
            "nginx_address": f"unix:{path}",
            "lighttpd_address": f'"socket" => "{path}"',
            "apache_worker": "fcgi://greenfcgi/",
            "apache_handler": f"proxy:unix:{path}|fcgi://greenfcgi/",
            "caddy_address": f"unix/{path}",
            "haproxy_address": f"unix@{path}",
        }
    bracketed = f"[{host}]" if ":" in host else host
    return {
        "socket": "",
        "socket_folder": "",
        "nginx_address": f"{bracketed}:{port}",
        "lighttpd_address": f'"host" => "{host}", "port" => {port}',
        # Apache takes brackets for a pattern there.
        "apache_worker": "" if ":" in host else f"fcgi://{host}:{port}/",
        "apache_handler": f"proxy:fcgi://{bracketed}:{port}/",
        "caddy_address": f"{bracketed}:{port}",
        "haproxy_address": f"{host}:{port}",
    }


def _lists(address: Address, extensions: tuple[str, ...]) -> dict[str, str]:
    """What web servers write once for each of scripts.extensions."""
    backend = _addresses(address)["lighttpd_address"]
    backend += ', "x-sendfile" => "enable", "x-sendfile-docroot" => ( var.root )'
    return {
        "lighttpd_backend": backend,
        "lighttpd_scripts": ", ".join(f'"{extension}" => (( {backend} ))' for extension in extensions),
        "caddy_split": " ".join(extensions),
    }
