"""Large uploads to the real server: they take no memory, and hold up nobody; a deadline and the client end them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.fastcgi import records

from ...bench.accounting import memory
from ...support.running import Connection, Server, until

BOUNDARY = "----WebKitFormBoundary7MA4YWxk"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="large.bin"\r\n\r\n'.encode()
END = f"\r\n--{BOUNDARY}--\r\n".encode()
MEBIBYTE = 1024 * 1024
SIZE = 300 * MEBIBYTE

SCRIPTS = {
    "upload.lua": """
        local form = require "greenfcgi.form"
        function main(env, con)
            con:log("begun")
            local fields, files = form.read(env, con)
            con:log("read")
            assert(files.f:move("kept.bin"))
            con:puts(files.f.size)
        end
    """,
    "hello.lua": "function main(env, con) con:puts('hello') end",
}
SETTINGS = '[scripts]\nmax_post = "1G"\n'


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the server has temporary files; none are left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list(folder.iterdir())


def upload(server: Server, connection: Connection, mebibytes: int) -> None:
    """Send a form with a file of that size, part by part."""
    length = len(HEAD) + mebibytes * MEBIBYTE + len(END)
    params = server.params(
        "upload.lua", REQUEST_METHOD="POST", CONTENT_LENGTH=str(length),
        CONTENT_TYPE=f"multipart/form-data; boundary={BOUNDARY}",
    )  # fmt: skip
    content = records.encode_pairs((name.encode(), value.encode()) for name, value in params.items())
    connection.send(records.begin_request(1, records.RESPONDER, False))
    connection.send(b"".join(records.stream(records.PARAMS, 1, content)) + records.record(records.PARAMS, 1))
    part = b"".join(records.stream(records.STDIN, 1, bytes(range(256)) * (MEBIBYTE // 256)))
    connection.send(b"".join(records.stream(records.STDIN, 1, HEAD)))
    for _ in range(mebibytes):
        connection.send(part)
    connection.send(b"".join(records.stream(records.STDIN, 1, END)) + records.record(records.STDIN, 1))


def test_an_upload_takes_no_memory_and_holds_up_nobody(tmp_path: Path, temporary: Path) -> None:
    """300 MB, in a server of 30; others have answers between the parts of it."""
    with Server(tmp_path, SCRIPTS, SETTINGS) as server, server.connect() as connection:
        upload(server, connection, 1)
        assert connection.reply().body == b"%d" % MEBIBYTE
        before = memory([server.pid]).pss
        with server.connect() as other:
            upload(server, other, SIZE // MEBIBYTE)
            most, hellos = 0, 0
            other.socket.settimeout(0)
            while not (1 in other.client.replies and other.client.replies[1].ended):
                assert server.get("hello.lua").body == b"hello"
                hellos += 1
                most = max(most, memory([server.pid]).pss)
                try:
                    other.receive_some()
                except BlockingIOError:
                    pass
            assert other.client.replies[1].body == b"%d" % SIZE
        assert hellos > 5
        assert most - before < 16 * MEBIBYTE
        kept = server.root / "kept.bin"
        assert kept.stat().st_size == SIZE
        with kept.open("rb") as file:
            file.seek(SIZE - 256)
            assert file.read() == bytes(range(256))
        server.stop()


def test_a_deadline_ends_an_upload(tmp_path: Path, temporary: Path) -> None:
    """In the midst of it: nothing is kept."""
    with Server(tmp_path, SCRIPTS, "timeout = 0.1\n" + SETTINGS) as server, server.connect() as connection:
        upload(server, connection, 400)
        assert connection.reply().status == 504
        assert not (server.root / "kept.bin").exists()
        until(lambda: not list(temporary.iterdir()), "the temporary files to go")
        server.stop()


def test_a_client_that_goes_ends_an_upload(tmp_path: Path, temporary: Path) -> None:
    """The server goes on, with nothing of it."""
    with Server(tmp_path, SCRIPTS, SETTINGS) as server:
        with server.connect() as connection:
            upload(server, connection, 300)
            server.logged("begun")
        until(lambda: not list(temporary.iterdir()), "the temporary files to go")
        assert server.get("hello.lua").body == b"hello"
        assert not (server.root / "kept.bin").exists()
        assert ": read" not in server.log()
        server.stop()


def test_what_a_killed_process_has_left_goes_with_the_next_upload(tmp_path: Path, temporary: Path) -> None:
    """Its folder, which nobody holds any more."""
    scripts = SCRIPTS | {
        "stay.lua": """
            local form = require "greenfcgi.form"
            function main(env, con)
                form.read(env, con)
                con:log("read")
                con:sleep(60)
            end
        """
    }
    body = HEAD + b"12345" + END
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    with Server(tmp_path, scripts, SETTINGS) as server:
        with server.connect() as connection:
            params = server.params("stay.lua", REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)), CONTENT_TYPE=kind)
            connection.send(connection.client.request(params, body))
            server.logged(": read")
            assert server.process is not None
            server.process.kill()
            server.process.wait()
        assert list(temporary.iterdir())
        server.log_path.unlink()
        server.start()
        assert server.get("upload.lua", body, CONTENT_TYPE=kind).body == b"5"
        assert not list(temporary.iterdir())
        server.stop()
