"""What the files for several machines have in their places, beside what all files have."""

from __future__ import annotations

import os

from ..config.load import Config, toml_line
from ..config.toml import quoted
from ..config.types import size_text

#: Where the others are, in a network that documentation is free to name (RFC 5737).
_REDIS = "redis://192.0.2.20:6379/0"
_PORT = 9000
_PING = "/ping"
_DICTIONARIES = {"sessions": 16 * 2**20}


def machine_values(config: Config) -> dict[str, str]:
    """The values, by their names. What a single machine does not need, such as a TCP port, has a usual value."""
    ports = [address.port for address in config.bind if address.kind == "tcp" and address.port]
    shared = config.shared
    # A socket of this machine is no way to the Redis of all.
    url = shared.url if shared.redis is not None and not shared.redis.path else _REDIS
    key_file = config.app.get("key_file")
    return {
        "machines_port": str(ports[0] if ports else _PORT),
        "machines_ping": config.ping_path or _PING,
        "machines_redis": quoted(url),
        "machines_dictionaries": "\n".join(
            toml_line(name, size_text(count)) for name, count in (shared.sizes or _DICTIONARIES).items()
        ),
        "machines_key": os.path.join(config.folder, key_file if isinstance(key_file, str) else "session.key"),
    }
