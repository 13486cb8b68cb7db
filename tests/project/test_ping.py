"""`--ping`: whether the server that a configuration describes answers."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from ..support.command import Result, run
from ..support.running import Server


def test_a_server_that_runs(tmp_path: Path) -> None:
    """Each address of `bind` is asked; any address of the machine is asked at the loopback."""
    with Server(tmp_path, {"hello.lua": "function main(env, con) end"}) as server:
        assert run(server.folder, "--ping", str(server.config)) == Result(0, "pong\n", "")
        result = run(server.folder, "--ping", str(server.config), "--set", "bind='unix:none'")
        assert result == Result(1, "", f"greenfcgi: unix:{server.folder}/none: No such file or directory\n")


@pytest.mark.parametrize(("host", "bind"), [("127.0.0.1", "0.0.0.0"), ("::1", "[::]")])
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_something_else_that_listens(folder: Path, host: str, bind: str, answer: bytes) -> None:
    """It is no FastCGI server."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        result = run(folder, "--ping", "-b", f"{bind}:{port}", "--set", 'allowed_clients=["10.0.0.0/8"]')
        thread.join()
    assert result == Result(1, "", f"greenfcgi: {bind}:{port}: found something that is no FastCGI server\n")


def test_descriptors_cannot_be_asked(folder: Path) -> None:
    """They are the server's own: no answer is no pong."""
    result = run(folder, "--ping", "-b", "fd://3")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("greenfcgi: bind: found descriptors only, expected an address that can be asked")
