"""greenfcgi.crypto: what hashes and encodings give, passwords, and what is said of wrong arguments."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from greenfcgi.modules.text import digests, passwords

from ...support.inside import Inside
from ...support.running import Server, until

_HEAD = 'local crypto = require "greenfcgi.crypto"\nlocal function say(...) for i = 1, select("#", ...) do ' \
    'con:puts(tostring((select(i, ...))), "\\n") end end\n'  # fmt: skip


def said(lua: Inside, statements: str) -> list[str]:
    """What a script says, line by line."""
    return lua.main(_HEAD + statements).text.splitlines()


@pytest.mark.parametrize("name", sorted(digests.BLOCKS))
def test_hashes(lua: Inside, name: str) -> None:
    """All of them, of short and of long texts, in each form; HMAC with keys below and above a block."""
    text = bytes(range(256)) * 2
    long = b"x" * 3_000_000
    assert said(lua, f"""
        local bytes = {{}}
        for i = 0, 255 do bytes[i + 1] = string.char(i) end
        local text, long = table.concat(bytes):rep(2), ("x"):rep(3000000)
        say(crypto.{name}(text), crypto.{name}(long), crypto.{name}("", "base64"), crypto.{name}(text, "base64url"))
        say(#crypto.{name}(text, "raw"), crypto.hmac_{name}("key", text), crypto.hmac_{name}(text, "text", "base64"))
        say(crypto.hmac_{name}("k", long), crypto.{name}(12))
    """) == [
        hashlib.new(name, text).hexdigest(), hashlib.new(name, long).hexdigest(),
        base64.b64encode(hashlib.new(name, b"").digest()).decode(),
        base64.urlsafe_b64encode(hashlib.new(name, text).digest()).decode().rstrip("="),
        str(hashlib.new(name).digest_size), hmac.new(b"key", text, name).hexdigest(),
        base64.b64encode(hmac.new(text, b"text", name).digest()).decode(),
        hmac.new(b"k", long, name).hexdigest(), hashlib.new(name, b"12").hexdigest(),
    ]  # fmt: skip


def test_encodings(lua: Inside) -> None:
    """Hex, base64 and base64url, and back; what is none of them is nil and a message."""
    assert said(lua, r"""
        local text = "\251\255\0a"
        for _, form in ipairs { "hex", "base64", "base64url" } do
            local from = crypto["from_" .. form]
            say(crypto[form](text), from(crypto[form](text)) == text, from("") == "")
        end
        say(crypto.from_hex("FF00") == "\255\0", crypto.from_base64url("YQ=="), crypto.from_base64("YQ"))
        for _, bad in ipairs { "a", "YR==", "Y Q=", "=YQ=", "YQ==YQ==", "\255", "YQ\n", "====", "YWJj====" } do
            local data, problem = crypto.from_base64(bad)
            say(data, problem)
        end
        say(crypto.from_hex("0g"), crypto.from_hex("abc"), crypto.from_base64url("+/+/"))
    """) == [
        "fbff0061", "true", "true", "+/8AYQ==", "true", "true", "-_8AYQ", "true", "true", "true", "a", "a",
        *["nil", "not base64"] * 9, "nil", "nil", "nil", "not base64url",
    ]  # fmt: skip


def test_random_and_equal(lua: Inside) -> None:
    """Random bytes are as many as asked for, and others each time; texts are compared."""
    assert said(
        lua,
        """
        say(#crypto.random(0), #crypto.random(33), crypto.random(16) ~= crypto.random(16))
        say(crypto.equal("", ""), crypto.equal("abc", "abc"), crypto.equal("abc", "abd"), crypto.equal("abc", "ab"))
    """,
    ) == ["0", "33", "true", "true", "true", "false", "false"]


def test_uuids(lua: Inside) -> None:
    """Version 4 is random, version 7 sorts by time."""
    found = said(lua, "for _ = 1, 20 do say(crypto.uuid()) end say(crypto.uuid(7), crypto.uuid(7))")
    uuids = [uuid.UUID(text) for text in found]
    assert {each.variant for each in uuids} == {uuid.RFC_4122}
    assert {each.version for each in uuids[:20]} == {4}
    assert len(set(uuids)) == 22
    assert {each.version for each in uuids[20:]} == {7}
    assert abs((uuids[20].int >> 80) - (uuids[21].int >> 80)) < 60_000
    assert [str(each) for each in uuids] == found


def test_passwords(lua: Inside) -> None:
    """A hash is another one each time, and verifies its password alone."""
    assert said(
        lua,
        r"""
        local hash = crypto.hash_password("secret\0more")
        say(hash:match("^%$argon2id%$v=19%$m=19456,t=2,p=1%$") ~= nil, hash ~= crypto.hash_password("secret\0more"))
        say(crypto.verify_password("secret\0more", hash), crypto.verify_password("secret", hash))
        say(crypto.needs_rehash(hash), crypto.needs_rehash("x"), crypto.verify_password("secret", nil))
    """,
    ) == ["true", "true", "true", "false", "false", "true", "false"]


def test_without_argon2(lua: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes are scrypt's then; those of Argon2 say what is to be installed."""
    monkeypatch.setattr(passwords, "_argon2", lambda: None)
    argon2 = "$argon2id$v=19$m=8,t=1,p=1$" + "A" * 22 + "$" + "B" * 43
    found = said(
        lua,
        f"""
        local hash = crypto.hash_password("secret")
        say(hash:sub(1, 22), crypto.verify_password("secret", hash), crypto.verify_password("other", hash))
        say(crypto.needs_rehash(hash), select(2, crypto.verify_password("x", "{argon2}")))
    """,
    )
    assert found == [
        "$scrypt$ln=15,r=8,p=3$", "true", "false", "false",
        "found a hash of Argon2, which needs: pip install 'greenfcgi[passwords]'",
    ]  # fmt: skip


def test_hashes_of_others() -> None:
    """Hashes that other programs have made; scrypt's are outdated where Argon2 is there."""
    from argon2 import PasswordHasher, Type

    for kind in Type:
        other = PasswordHasher(1, 64, 2, type=kind).hash("ä")
        assert passwords.verified("ä".encode(), other.encode())
        assert not passwords.verified(b"a", other.encode())
        assert passwords.is_outdated(other.encode())
    salt = b"0123456789abcdef"
    raw = hashlib.scrypt(b"pw", salt=salt, n=16, r=8, p=1, dklen=32)
    text = "$scrypt$ln=4,r=8,p=1$" + "$".join(base64.b64encode(part).decode().rstrip("=") for part in (salt, raw))
    assert passwords.verified(b"pw", text.encode())
    assert passwords.is_outdated(text.encode())


@pytest.mark.parametrize(
    ("hash_", "says"),
    [
        ("", "no hash of a password"),
        ("$2y$10$" + "a" * 53, "a hash of bcrypt"),
        ("$argon2id$v=19$m=19456,t=2,p=1$AAAA$BBBB", "no hash"),
        ("$argon2id$v=19$m=999999999,t=2,p=1$" + "A" * 22 + "$" + "B" * 43, "costs more"),
        ("$argon2id$v=19$m=300000,t=1,p=1$" + "A" * 22 + "$" + "B" * 43, "costs more"),
        ("$argon2id$v=19$m=200000,t=99,p=1$" + "A" * 22 + "$" + "B" * 43, "costs more"),
        ("$argon2id$v=19$m=8192,t=1,p=999$" + "A" * 22 + "$" + "B" * 43, "costs more"),
        ("$argon2id$v=19$m=0,t=1,p=1$" + "A" * 22 + "$" + "B" * 43, "cannot have"),
        ("$argon2id$v=99$m=19456,t=2,p=1$" + "A" * 22 + "$" + "B" * 43, "cannot have"),
        ("$scrypt$ln=30,r=8,p=1$" + "A" * 22 + "$" + "B" * 43, "costs more"),
        ("$scrypt$ln=15,r=8,p=999999999$" + "A" * 22 + "$" + "B" * 43, "costs more"),
        ("$scrypt$ln=4,r=999999999,p=1$" + "A" * 22 + "$" + "B" * 43, "costs more"),
        ("$scrypt$ln=0,r=8,p=1$" + "A" * 22 + "$" + "B" * 43, "cannot have"),
        ("$scrypt$ln=20,r=1,p=1$" + "A" * 22 + "$" + "B" * 43, "cannot have"),
        ("$scrypt$ln=4,r=8,p=1$" + "A" * 21 + "$" + "B" * 43, "cut off"),
    ],
)
def test_hashes_that_cannot_be(hash_: str, says: str) -> None:
    """Forged hashes take neither memory nor time."""
    with pytest.raises(passwords.UnusableHash, match=says):
        passwords.verified(b"x", hash_.encode())


def test_wrong_arguments(lua: Inside) -> None:
    """The error names the argument, at the script's line."""
    for call, says in (
        ("crypto.random(-1)", "bad argument #1 to 'random' (found -1, expected a whole number of bytes from 0 to"),
        ("crypto.random('x')", "bad argument #1 to 'random' (found string"),
        ("crypto.sha256()", "bad argument #1 to 'sha256' (string expected, got nil)"),
        ("crypto.sha256('', 'octal')", "bad argument #2 to 'sha256' (found \"octal\", expected \"hex\""),
        ("crypto.hmac_sha1('k')", "bad argument #2 to 'hmac_sha1' (string expected, got nil)"),
        ("crypto.equal('a', nil)", "bad argument #2 to 'equal' (string expected, got nil)"),
        ("crypto.hash_password({})", "bad argument #1 to 'hash_password' (string expected, got table)"),
        ("crypto.uuid(5)", "bad argument #1 to 'uuid' (found 5, expected 4 or 7)"),
    ):  # fmt: skip
        error = lua.main(_HEAD + call).error
        assert says in error
        assert "page.lua:4: " in error


def test_openssl_stays_away() -> None:
    """Short texts need no OpenSSL, which takes 4 MB."""
    program = (
        "import sys\n"
        "from greenfcgi.modules.text.digests import digest, hmac\n"
        "digest('sha256', b'x'), hmac('sha512', b'k', b'x')\n"
        "assert '_hashlib' not in sys.modules and '_ssl' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_others_run_while_a_password_is_hashed(tmp_path: Path) -> None:
    """Many logins at a time: each takes a thread, and a hello does not wait for them."""
    script = """
        local crypto = require "greenfcgi.crypto"
        local count = 0
        function main(env, con)
            for _ = 1, 5 do count = count + (crypto.verify_password("x", crypto.hash_password("x")) and 1 or 0) end
            con:puts("done")
        end
    """
    hello = "function main(env, con) con:puts('hello') end"
    with Server(tmp_path, {"login.lua": script, "hello.lua": hello}) as server:
        assert b"hello" in server.get("hello.lua").stdout
        replies: list[bytes] = []
        threads = [threading.Thread(target=lambda: replies.append(server.get("login.lua").stdout)) for _ in range(4)]
        for thread in threads:
            thread.start()
        answered = 0
        while len(replies) < 4 and any(thread.is_alive() for thread in threads):
            assert b"hello" in server.get("hello.lua").stdout
            answered += 1
        for thread in threads:
            thread.join()
        assert len(replies) == 4
        assert all(b"done" in reply for reply in replies)
        assert answered > 10


def test_a_deadline_ends_the_wait(tmp_path: Path) -> None:
    """Who waits for a thread is ended by its timeout as usual, and the server goes on."""
    script = """
        local crypto = require "greenfcgi.crypto"
        function main(env, con) while true do crypto.hash_password("x") end end
    """
    with Server(tmp_path, {"login.lua": script}, "timeout = 0.3\n") as server:
        assert server.get("login.lua").status == 504
        until(lambda: "stopped: it ran longer than timeout" in server.log())
