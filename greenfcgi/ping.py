"""`greenfcgi --ping`: whether the server that a configuration describes answers, for health checks of containers and
service managers.

The server is asked what it supports (GET_VALUES, section 4.1 of the FastCGI specification): it answers as long as its
event loop runs, also when every worker is busy, and no setting is needed for it.
"""

from __future__ import annotations

import socket

from .config.address import Address
from .config.load import Config
from .errors import ProtocolError
from .fastcgi.client import Client
from .fastcgi.records import get_values


def ping(config: Config, seconds: float) -> str:
    """ "" where a server answers at each address of `bind` within `seconds`; else the first problem, in one line.

    Descriptors are the server's own: where they are all that it listens on, it cannot be asked.
    """
    addresses = [address for address in config.bind if address.kind != "fd"]
    if not addresses:
        return "bind: found descriptors only, expected an address that can be asked: --ping -b unix:/run/x.sock"
    for address in addresses:
        try:
            _ask(address, seconds)
        except TimeoutError:
            return f"{address}: no answer within {seconds:g} s"
        except OSError as problem:
            return f"{address}: {problem.strerror or problem}"
        except ProtocolError:
            return f"{address}: found something that is no FastCGI server"
    return ""


def _ask(address: Address, seconds: float) -> None:
    """Raises OSError, or ProtocolError when something else answers."""
    with _connect(address, seconds) as connection:
        connection.sendall(get_values([b"FCGI_MPXS_CONNS"]))
        client = Client()
        while not client.management:
            data = connection.recv(4096)
            if not data:
                raise ProtocolError("the connection was closed")
            client.receive(data)


def _connect(address: Address, seconds: float) -> socket.socket:
    if address.kind == "tcp":
        return socket.create_connection((address.reachable().host, address.port), seconds)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(seconds)
    try:
        connection.connect(f"\0{address.path[1:]}" if address.is_abstract else address.path)
    except OSError:
        connection.close()
        raise
    return connection
