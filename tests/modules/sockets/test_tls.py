"""ssl for scripts, as LuaSec has it: handshakes, verification, big transfers, ends, kept connections."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ...support.inside import Inside, Request
from .conftest import Certificates
from .peers import Serve, echoes, is_silent, serving, together

SHOW = """
local socket, ssl = require "socket.core", require "ssl"
local function show(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    con:puts(table.concat(parts, " "), "\\n")
end
local function wrapped(port, parameters)
    local tcp = socket.tcp()
    tcp:settimeout(5)
    assert(tcp:connect("127.0.0.1", port))
    return assert(ssl.wrap(tcp, parameters))
end
"""


@pytest.fixture(params=("luajit21", "lua51", "lua54"))
def lua(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inside]:
    """Some Luas."""
    inside = Inside(tmp_path, request.param)
    yield inside
    inside.close()


def said(lua: Inside, statements: str) -> list[str]:
    """What a script writes, line by line."""
    return lua.main(SHOW + statements).text.splitlines()


def tls(
    certificates: Certificates, serve: Callable[[ssl.SSLSocket], None], version: ssl.TLSVersion | None = None
) -> Serve:
    """A server that encrypts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.set_alpn_protocols(["http/1.1"])
    if version is not None:
        context.minimum_version = context.maximum_version = version

    def run(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            serve(stream)

    return run


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_connection(lua: Inside, certificates: Certificates, version: ssl.TLSVersion) -> None:
    """Lines go both ways, and the other end's certificate and the protocol can be looked at."""
    with serving(tls(certificates, echoes, version)) as port:
        found = said(
            lua,
            f"""
            local conn = wrapped({port}, {{mode = "client", protocol = "any", verify = "none", alpn = "http/1.1",
                options = {{"all", "no_sslv2", "no_sslv3"}}}})
            show(tostring(conn):match("^[^ :]+:[^ :]+"), conn.class, conn:want())
            conn:sni("localhost")
            show(conn:dohandshake())
            show(conn:dohandshake())
            show(conn:send("hello\\nworld"))
            show(conn:receive())
            show(conn:receive(3), conn:dirty())
            conn:settimeout(0.05)
            show(conn:receive("*l"))
            show(conn:want(), conn:info("protocol"), conn:info().bits >= 128, conn:getalpn())
            local certificate = conn:getpeercertificate()
            show(certificate:getsignaturename(), #certificate:digest(), #certificate:digest("sha256"))
            show(certificate:pem():match("^[^\\n]+"), certificate:digest("nothing"))
            show(ssl.loadcertificate(certificate:pem()):digest() == certificate:digest(), ssl.loadcertificate("none"))
            show(conn:getpeername())
            show(conn:close(), conn:close(), conn:getfd(), conn:send("x"))
            """,
        )
    assert found == [
        "SSL:Connection SSL:Connection nothing", "true", "true", "11 nil nil", "hello nil nil", "wor true",
        "nil wantread ld", f"read {version.name.replace('_', '.')} true http/1.1", "ecdsa-with-SHA256 40 64",
        "-----BEGIN CERTIFICATE----- nil digest algorithm not supported (nothing)", "true nil invalid certificate",
        f"127.0.0.1 {port} inet", "1 1 -1 nil closed 0",
    ]  # fmt: skip


def test_verification(lua: Inside, certificates: Certificates) -> None:
    """None unless it is asked for, as in LuaSec; then against the authorities that are named."""
    with serving(together(tls(certificates, echoes))) as port:
        found = said(
            lua,
            f"""
            show(wrapped({port}, {{mode = "client"}}):dohandshake())
            show(wrapped({port}, {{mode = "client", verify = "peer"}}):dohandshake())
            show(wrapped({port}, {{mode = "client", verify = {{"peer", "fail_if_no_peer_cert"}},
                cafile = "{certificates.authority}"}}):dohandshake())
            local failed = wrapped({port}, {{mode = "client", verify = "peer"}})
            failed:dohandshake()
            show(failed:send("secret"))
            show(failed:receive())
            """,
        )
    failed = "false certificate verify failed"
    assert found == ["true", failed, "true", "nil closed 0", "nil closed "]


def test_nothing_is_sent_before_the_handshake(lua: Inside) -> None:
    """It would be read by anybody."""
    received = []

    def collect(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            received.append(data)

    with serving(collect) as port:
        found = said(
            lua,
            f"""
            local conn = wrapped({port}, {{mode = "client"}})
            show(conn:send("secret"))
            show(conn:receive())
            show(conn:receive("*a", "before"))
            show(conn:setkeepalive())
            show(conn:getpeercertificate(), conn:info(), conn:getalpn())
            conn:close()
            """,
        )
    assert found == ["nil closed 0", "nil closed ", "nil closed before", "nil closed", "nil nil nil"]
    assert received == []


def test_a_handshake_that_never_comes(lua: Inside) -> None:
    """It is called again, as LuaSec's users do, until they have enough."""
    with serving(is_silent) as port:
        found = said(
            lua,
            f"""
            local conn = wrapped({port}, {{mode = "client"}})
            conn:settimeout(0.02)
            for _ = 1, 3 do show(conn:dohandshake()) end
            show(conn:want(), conn:send("x"))
            """,
        )
    assert found == ["false wantread", "false wantread", "false wantread", "read nil closed 0"]


def test_who_speaks_no_tls(lua: Inside) -> None:
    """Failures are false and what OpenSSL says, or closed."""

    def talks(connection: socket.socket) -> None:
        connection.sendall(b"220 hello, this is plain text\r\n")
        connection.recv(65536)

    def goes(connection: socket.socket) -> None:
        connection.recv(10)

    with serving(talks) as port:
        found = said(lua, f"show(wrapped({port}, {{mode = 'client'}}):dohandshake())")
    assert found == ["false wrong version number"]
    with serving(goes) as port:
        found = said(lua, f"show(wrapped({port}, {{mode = 'client'}}):dohandshake())")
    assert found == ["false closed"]


def test_an_end_without_a_word(lua: Inside, certificates: Certificates) -> None:
    """Many close the connection and not the encryption: what has come is there, then it is closed."""

    def abrupt(stream: ssl.SSLSocket) -> None:
        stream.sendall(b"all there is")
        # Only the connection.
        socket.socket.shutdown(stream, socket.SHUT_WR)
        time.sleep(0.1)

    with serving(tls(certificates, abrupt)) as port:
        found = said(
            lua,
            f"""
            local conn = wrapped({port}, {{mode = "client"}})
            show(conn:dohandshake())
            show(conn:receive("*a"))
            show(conn:receive("*a"))
            """,
        )
    assert found == ["true", "all there is nil nil", "nil closed "]


def test_the_script_says_that_it_ends(lua: Inside, certificates: Certificates) -> None:
    """The other end is told, so that it can tell the end from a cut."""
    ends = []

    def reads(stream: ssl.SSLSocket) -> None:
        try:
            while data := stream.recv(65536):
                ends.append(data)
            ends.append(b"")
        except OSError as problem:
            ends.append(type(problem).__name__.encode())

    with serving(tls(certificates, reads)) as port:
        said(
            lua,
            f"""
            local conn = wrapped({port}, {{mode = "client"}})
            conn:dohandshake()
            conn:send("hello")
            conn:close()
            """,
        )
    assert ends == [b"hello", b""]


def test_big_transfers_both_ways(lua: Inside, certificates: Certificates) -> None:
    """Megabytes of lines and of bytes, at a peer that does not read at once."""

    def echo_later(stream: ssl.SSLSocket) -> None:
        time.sleep(0.05)
        data = bytearray()
        while len(data) < 3_000_000:
            data += stream.recv(100_000)
        stream.sendall(data + b"\nend\n")

    with serving(tls(certificates, echo_later)) as port:
        found = said(
            lua,
            f"""
            local conn = wrapped({port}, {{mode = "client"}})
            conn:dohandshake()
            local data = ("0123456789"):rep(300000)
            show(conn:send(data))
            show(conn:receive(1500000) .. conn:receive() == data, conn:receive())
            """,
        )
    assert found == ["3000000 nil nil", "true end nil nil"]


def test_a_script_as_the_server(lua: Inside, certificates: Certificates) -> None:
    """With a certificate and a key; the other end is a thread."""
    done = threading.Event()
    answers = []
    ports: list[int] = []

    def client() -> None:
        context = ssl.create_default_context(cafile=str(certificates.authority))
        for _ in range(500):
            if ports:
                break
            time.sleep(0.01)
        with (
            socket.create_connection(("127.0.0.1", ports[0]), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as stream,
        ):
            stream.sendall(b"from outside\n")
            answers.append(stream.recv(100))
        done.set()

    class Telling(Request):
        def send(self, status: int, head: bytes, data: bytes) -> None:
            super().send(status, head, data)
            if data.strip().isdigit():
                ports.append(int(data))

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    found = lua.main(
        SHOW
        + f"""
        local server = socket.tcp()
        server:bind("127.0.0.1", 0)
        server:listen()
        con:puts((select(2, server:getsockname())), "\\n")
        con:flush()
        local context = assert(ssl.newcontext {{mode = "server", protocol = "any",
            certificate = "{certificates.certificate}", key = "{certificates.key}"}})
        local conn = assert(ssl.wrap(server:accept(), context))
        show(conn:dohandshake())
        show(conn:receive())
        conn:send("from the script\\n")
        """,
        Telling(),
    )
    assert done.wait(10)
    thread.join(10)
    assert found.text.splitlines()[1:] == ["true", "from outside nil nil"]
    assert answers == [b"from the script\n"]


def counted(certificates: Certificates, serve: Callable[[ssl.SSLSocket], None]) -> tuple[Serve, list[int]]:
    """A server that counts its connections."""
    handshakes: list[int] = []
    encrypted = together(tls(certificates, serve))

    def run(connection: socket.socket) -> None:
        handshakes.append(1)
        encrypted(connection)

    return run, handshakes


REQUEST = """
local tcp = socket.tcp()
tcp:settimeout(5)
assert(tcp:connect("127.0.0.1", {port}))
local conn = assert(ssl.wrap(tcp, {{mode = "client", {more}}}))
show(conn:getreusedtimes(), conn:dohandshake())
if conn:send("hello\\n") then
    show(conn:receive())
    show(conn:setkeepalive())
end
"""


def test_kept_connections(lua: Inside, certificates: Certificates) -> None:
    """The handshake is done once for many requests, also by states that come later."""
    serve, handshakes = counted(certificates, echoes)
    with serving(serve) as port:
        for number in range(4):
            found = said(lua, REQUEST.format(port=port, more="verify = 'none'"))
            assert found == [f"{number} true", "hello nil nil", "1"]
        assert len(handshakes) == 1


def test_a_kept_connection_is_trusted_on_its_own_terms(lua: Inside, certificates: Certificates) -> None:
    """Who verifies gets no connection that somebody else has opened without: there is a new one, or an error."""
    serve, handshakes = counted(certificates, echoes)
    with serving(serve) as port:
        assert said(lua, REQUEST.format(port=port, more="verify = 'none'"))[0] == "0 true"
        strict = said(lua, REQUEST.format(port=port, more="verify = 'peer'"))
        assert strict == ["1 false certificate verify failed"]
        trusting = said(lua, REQUEST.format(port=port, more="verify = 'none'"))
        assert trusting == ["0 true", "hello nil nil", "1"]
        knowing = said(lua, REQUEST.format(port=port, more=f"verify = 'peer', cafile = '{certificates.authority}'"))
        assert knowing == ["1 true", "hello nil nil", "1"]
        assert len(handshakes) == 4


def test_contexts(lua: Inside, certificates: Certificates) -> None:
    """What cannot be used is named."""
    wrong = {
        "{}": "invalid mode (nil)",
        "{mode = 'client', verify = 'what'}": "invalid verify option (what)",
        "{mode = 'client', protocol = 'ssl9'}": "invalid protocol (ssl9)",
        "{mode = 'client', options = {'all', 'nothing'}}": "invalid option (nothing)",
        "{mode = 'client', ciphers = 'NONE'}": "error setting cipher list",
        "{mode = 'client', ciphers = '\\255'}": "invalid parameters",
        "{mode = 'client', alpn = {''}}": "invalid parameters",
        "{mode = 'client', alpn = {1}}": "invalid alpn",
        "{mode = 'client', cafile = 'none.pem'}": "error loading CA locations (No such file or directory)",
        "{mode = 'server', certificate = 'none.pem'}":
            "error loading certificate and key (No such file or directory)",
        f"{{mode = 'server', certificate = '{certificates.authority}', key = '{certificates.key}'}}":
            "error loading certificate and key (key values mismatch)",
        "{mode = 'client', cafile = 'a\\0b'}": "invalid cafile",
    }  # fmt: skip
    found = said(lua, "\n".join(f"show(select(2, ssl.newcontext({parameters})))" for parameters in wrong))
    assert found == list(wrong.values())


def test_a_certificate_that_is_renewed(lua: Inside, certificates: Certificates, tmp_path: Path) -> None:
    """Files are read again when they have changed."""
    copy = tmp_path / "authority.pem"
    copy.write_text("-----BEGIN NOTHING-----\n")
    parameters = f"{{mode = 'client', verify = 'peer', cafile = '{copy}'}}"
    assert said(lua, f"show(ssl.newcontext({parameters}))")[0].startswith("nil error loading CA locations")
    shutil.copy(certificates.authority, copy)
    with serving(tls(certificates, echoes)) as port:
        assert said(lua, f"show(wrapped({port}, {parameters}):dohandshake())") == ["true"]
        copy.write_text("-----BEGIN NOTHING-----\n")
        os.utime(copy, ns=(1, 1))
        assert said(lua, f"show(ssl.newcontext({parameters}))")[0].startswith("nil error loading CA locations")


@pytest.mark.parametrize("name", [r"a\0b", ".localhost", "x" * 300, r"\255"])
def test_a_name_that_is_none(lua: Inside, certificates: Certificates, name: str) -> None:
    """It fails before the server hears of it, and the descriptor is closed."""
    with serving(tls(certificates, echoes)) as port:
        found = said(
            lua,
            f"""
            local conn = wrapped({port}, {{mode = "client"}})
            conn:sni("{name}")
            show(conn:dohandshake())
            show(conn:send("x"))
            show(conn:close())
            """,
        )
    assert found == ["false invalid server name", "nil closed 0", "1"]
