"""The error log, the access log, and what both do when they cannot write."""

import json
import os
import re
import resource
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenfcgi.errors import ConfigError
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.request import Request
from greenfcgi.logs import access_log
from greenfcgi.logs.access_log import BUFFER_SIZE, AccessLog
from greenfcgi.logs.error_log import LEVELS, ErrorLog
from greenfcgi.logs.text import MAX_LINE, MAX_TEXT, MAX_TITLE, escape, shorten

from ..support.limits import limited
from ..support.running import Server

pytestmark = pytest.mark.pythons

DEFAULT_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'
PARAMS = {
    b"REMOTE_ADDR": b"192.0.2.7",
    b"REMOTE_USER": b"ada",
    b"REQUEST_METHOD": b"GET",
    b"REQUEST_URI": b"/shop/item.lua?id=7",
    b"QUERY_STRING": b"id=7",
    b"SERVER_PROTOCOL": b"HTTP/1.1",
    b"HTTP_REFERER": b"http://example.org/",
    b"HTTP_USER_AGENT": b"curl/8.5.0",
    b"HTTP_X_FORWARDED_FOR": b"198.51.100.1",
    b"CONTENT_TYPE": b"text/plain",
    b"SCRIPT_FILENAME": b"/srv/item.lua",
}
HEAD = b"Status: 200 OK\r\nContent-Type: text/html\r\nX-Cache:HIT\r\nX-Cache: MISS\r\nX-Empty: \r\n\r\n"


class Entry(NamedTuple):
    """A request that has been answered: its parameters, the status, the body's length, the time, the header block."""

    params: dict[bytes, bytes]
    status: int
    sent: int
    seconds: float
    head: bytes


ENTRY = Entry(PARAMS, 200, 5120, 1.000603, HEAD)
NOON = 1_795_348_929  # 2026-11-22 12:02:09 UTC
#: What text is decoded to: characters, and each byte that is not UTF-8 as half a pair of UTF-16.
CHARACTERS = st.characters(exclude_categories=["Cs"])
BYTES_OF_NONE = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log file that does not exist yet."""
    return tmp_path / "test.log"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """A clock that the test sets, in the time zone five and a half hours east of Greenwich."""
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield lambda seconds: monkeypatch.setattr(time, "time", lambda: seconds)
    monkeypatch.undo()
    time.tzset()


@contextmanager
def stream_replaced(number: int, replacement: int) -> Iterator[None]:
    """The descriptor `number` is `replacement` for a while."""
    kept = os.dup(number)
    os.dup2(replacement, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def texts(file: Path) -> list[str]:
    """The lines of an error log from the level on."""
    return [re.sub(r"^\[[^\]]+\] \[\d+\] ", "", line) for line in file.read_text().splitlines()]


def write(log: AccessLog, entry: Entry = ENTRY) -> None:
    """Log a request, which ends when its seconds are over."""
    request = Request(1, False)
    request.take_params(records.encode_pairs(entry.params.items()), records.router(log.wanted))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access_log, "monotonic", lambda: entry.seconds)
        log.write(request, entry.status, entry.sent, 0.0, entry.head)


def access_line(file: Path, format: str, entry: Entry = ENTRY) -> str:
    """The line that one entry gives in a format."""
    log = AccessLog(str(file), format)
    write(log, entry)
    log.close()
    written = file.read_bytes()
    assert written.endswith(b"\n")
    file.unlink()
    return written[:-1].decode()


class TestEscape:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a plain line, \\ and \" and 'é日本😀'", "a plain line, \\ and \" and 'é日本😀'"),
            ("a\r\nb\tc", r"a\r\nb\tc"),
            ("\x00\x1b[31mred\x7f", r"\x00\x1b[31mred\x7f"),
            ("\x9b31m\x85", r"\u009b31m\u0085"),
            ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
            ("\u202eexe.\u2066fdp\u200b", r"\u202eexe.\u2066fdp\u200b"),
            ("\U000e0041", r"\U000e0041"),
            ("é".encode(), "é"),
            (b"\xff\xfe caf\xe9", r"\xff\xfe caf\xe9"),
            ("\udce9 \ud800", r"\xe9 \ud800"),
            (b"", ""),
        ],
    )
    def test_one_harmless_line(self, text: str | bytes, expected: str) -> None:
        """Control characters, invalid bytes and invisible characters become escapes, all else stays."""
        assert escape(text) == expected

    @given(st.text(st.characters()) | st.binary())
    def test_anything(self, text: str | bytes) -> None:
        """Whatever comes in, one printable line that can be encoded goes out."""
        assert escape(text).isprintable()
        assert escape(text).encode().decode() == escape(text)


class TestLength:
    """What one line costs has a limit, whoever chose what is in it."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("abcd", "abcd"),
            (b"abcdefgh", b"abcdefgh"),
            ("abcdefghi", "abcdefgh... (9 bytes)"),
            (b"abcdefghi", b"abcdefgh... (9 bytes)"),
            ("\u00e9" * 4, "\u00e9" * 4),
            ("a" + "\u00e9" * 4, "a\u00e9\u00e9\u00e9... (9 bytes)"),
            (b"a" + b"\xc3\xa9" * 4, b"a" + b"\xc3\xa9" * 3 + b"... (9 bytes)"),
            ("\U0001f600" * 3, "\U0001f600" * 2 + "... (12 bytes)"),
            ("abcdef\U0001f600", "abcdef... (10 bytes)"),
            (b"\x80" * 9, b"\x80" * 8 + b"... (9 bytes)"),
            ("\udc80" * 8, "\udc80" * 8),
            ("\udc80" * 9, "\udc80" * 8 + "... (9 bytes)"),
            # Half a pair of UTF-16 stands for no byte, and is as long as its escape.
            ("ab\ud800", "ab\ud800"),
            ("abc\ud800", "abc\\ud80... (9 bytes)"),
        ],
    )
    def test_cut(self, text: str | bytes, expected: str | bytes) -> None:
        """What is longer than eight bytes ends with a whole character, and says how long it was."""
        assert shorten(text, 8) == expected

    @given(st.text(CHARACTERS | BYTES_OF_NONE) | st.binary(), st.integers(4, 40))
    def test_any_text(self, text: str | bytes, limit: int) -> None:
        """Whatever comes in is not cut without need, and what is left is its beginning."""
        found = shorten(text, limit)
        data, left = (
            one if isinstance(one, bytes) else one.encode("utf-8", "surrogateescape") for one in (text, found)
        )
        end = left.rfind(b"... (") if left != data else len(data)
        assert data.startswith(left[:end])
        assert left == data or len(data) > limit >= end > limit - 4

    @pytest.mark.parametrize("as_json", [False, True])
    @pytest.mark.parametrize("text", [b"\1" * 12_000_000, b"\xff" * 12_000_000, "\x9b\u65e5" * 4_000_000])
    def test_long_lines(self, file: Path, text: str | bytes, as_json: bool) -> None:
        """Twelve million characters are a short line in no time, with their number of bytes; so is the detail."""
        log = ErrorLog(str(file), "info", as_json=as_json)
        started = time.thread_time()
        log.error(text, text)
        assert time.thread_time() - started < 1
        log.close()
        size = len(text) if isinstance(text, bytes) else len(text.encode())
        assert file.stat().st_size < 2 * 6 * MAX_LINE + 1000
        assert file.read_text().count(f"... ({size} bytes)") == 2

    @pytest.mark.parametrize("as_json", [False, True])
    @pytest.mark.parametrize("byte", [b"x", b"\1", b"\xff", b'"'])
    def test_access_log(self, file: Path, byte: bytes, as_json: bool) -> None:
        """A value that a client has chosen is cut, and leaves the others alone."""
        log = AccessLog(str(file), "%(r)s %(a)s %(h)s", as_json=as_json)
        write(log, ENTRY._replace(params=PARAMS | {b"HTTP_USER_AGENT": byte * 60_000}))
        log.close()
        line = file.read_text()
        assert len(line) < 6 * MAX_TEXT + 1000
        assert "... (60000 bytes)" in line
        assert "GET /shop/item.lua?id=7 HTTP/1.1" in line
        assert "192.0.2.7" in line

    def test_of_a_server(self, serve: Callable[..., Server]) -> None:
        """What a script logs, and writes to stderr, is cut behind the title; so is a long title."""
        server = serve({
            "log.lua": "function main(env, con) con:log(('\\1'):rep(10e6)) end",
            "title.lua": "function main(env, con) con:log('short') end",
        }, 'accesslog = "access.log"\n')  # fmt: skip
        assert server.get("log.lua").status == 200
        for name, status in (("title.lua", 200), ("none.lua", 404)):
            assert server.get(name, REQUEST_URI="/" + "\1" * 60_000).status == status
        assert server.stop() == 0
        log = server.log()
        found = [
            "log.lua: GET /log.lua: " + r"\x01" * MAX_TEXT + "... (10000000 bytes)\n" in log,
            "GET /" + r"\x01" * (MAX_TITLE - 5) + "... (60005 bytes): short\n" in log,
            "... (60005 bytes): SCRIPT_FILENAME" in log,
            (server.folder / "access.log").read_text().count(r"\x01... (60001 bytes) HTTP/1.1") == 2,
        ]
        assert found == [True] * 4


class TestErrorLog:
    def test_line(self, file: Path, clock: Callable[[float], None]) -> None:
        """A line has local time with its zone, process, level and text, and the time goes on."""
        log = ErrorLog(str(file), "debug")
        clock(NOON)
        log.info("started")
        clock(NOON + 0.9)
        log.error("same second")
        clock(NOON + 1)
        log.critical(b"gone \xff")
        assert file.read_text() == (
            f"[2026-11-22 17:32:09 +0530] [{os.getpid()}] [INFO] started\n"
            f"[2026-11-22 17:32:09 +0530] [{os.getpid()}] [ERROR] same second\n"
            f"[2026-11-22 17:32:10 +0530] [{os.getpid()}] [CRITICAL] gone \\xff\n"
        )

    @pytest.mark.parametrize("level", LEVELS)
    def test_level(self, file: Path, level: str) -> None:
        """Lines below the level are not written, and `enabled` says so beforehand."""
        log = ErrorLog(str(file), level)
        for name in LEVELS:
            getattr(log, name)("text")
        expected = list(LEVELS[LEVELS.index(level) :])
        assert texts(file) == [f"[{name.upper()}] text" for name in expected]
        assert [name for name in LEVELS if log.enabled(name)] == expected

    def test_detail(self, file: Path) -> None:
        """A traceback stands below its line, indented, so that no line of it can pass for a log line."""
        detail = "boom\nstack traceback:\n\t[C]: in 'error'\n\n[2026-11-22 00:00:00 +0000] [1] [INFO] \x1bforged\n"
        ErrorLog(str(file), "info").error("a.lua:1: boom\nforged", detail=detail)
        assert texts(file) == [
            r"[ERROR] a.lua:1: boom\nforged",
            "    boom",
            "    stack traceback:",
            "        [C]: in 'error'",
            "    ",
            r"    [2026-11-22 00:00:00 +0000] [1] [INFO] \x1bforged",
        ]

    def test_stderr(self, capfd: pytest.CaptureFixture[str]) -> None:
        """The path "-" is stderr, which reopen and close leave alone."""
        log = ErrorLog("-", "info")
        log.info("one")
        assert log.reopen() == ""
        log.close()
        os.write(2, b"still open\n")
        assert re.fullmatch(r"\[.*\] \[INFO\] one\nstill open\n", capfd.readouterr().err)

    def test_file(self, file: Path) -> None:
        """The file is appended to, and the world cannot read a new one."""
        mask = os.umask(0)
        try:
            ErrorLog(str(file), "info").info("one")
        finally:
            os.umask(mask)
        ErrorLog(str(file), "info").info("two")
        assert texts(file) == ["[INFO] one", "[INFO] two"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o640

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/nonexistent/x.log", "No such file or directory"),
            ("/", "Is a directory"),
            ("a\nb\0", "a zero byte in the path"),
        ],
    )
    def test_cannot_open(self, path: str, reason: str) -> None:
        """A path that cannot be opened is one line with the setting, the path and the reason."""
        with pytest.raises(ConfigError) as error:
            ErrorLog(path, "info", setting="slowlog")
        assert str(error.value) == (
            f'slowlog: cannot open "{escape(path)}": {reason}; '
            'expected a file that can be created or appended to, or "-"'
        )

    def test_pipe_without_reader(self, tmp_path: Path) -> None:
        """A named pipe that nobody reads is refused at once, not waited for."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="No such device or address"):
            ErrorLog(str(tmp_path / "pipe"), "info")

    def test_unknown_level(self, file: Path) -> None:
        """A level that does not exist is one line with the levels that do."""
        with pytest.raises(ConfigError) as error:
            ErrorLog(str(file), "loud\n")
        assert str(error.value) == (r'loglevel: found "loud\n"; expected one of debug, info, warning, error, critical')

    def test_lua_has_the_same_levels(self) -> None:
        """con:log takes what the error log has, in its own words for what is wrong, too."""
        prelude = Path(access_log.__file__).parents[1] / "lua" / "prelude"
        source = "".join((prelude / name).read_text() for name in ("services.lua", "refusals.lua"))
        table = re.search(r"^local LEVELS = \{(.*)\}$", source, re.MULTILINE)
        assert table is not None
        assert tuple(re.findall(r"(\w+) = true", table[1])) == LEVELS
        assert f"expected {', '.join(LEVELS[:-1])} or {LEVELS[-1]}" in source


class TestReopen:
    def test_rotation(self, file: Path) -> None:
        """After a rename, lines go to the old file until reopen, and to a new one from then on."""
        log = ErrorLog(str(file), "info")
        log.info("one")
        old = file.rename(file.with_suffix(".1"))
        log.info("two")
        assert log.reopen() == ""
        log.info("three")
        assert texts(old) == ["[INFO] one", "[INFO] two"]
        assert texts(file) == ["[INFO] three"]

    def test_no_descriptor_is_left(self, file: Path) -> None:
        """Reopening closes the old file."""
        log = ErrorLog(str(file), "info")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            log.reopen()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_failure_keeps_the_old_file(self, tmp_path: Path) -> None:
        """When the path cannot be opened again, the log stays where it is and says why."""
        directory = tmp_path / "logs"
        directory.mkdir()
        log = ErrorLog(str(directory / "x.log"), "error")
        moved = directory.rename(tmp_path / "moved")
        problem = log.reopen()
        log.error("goes on")
        assert "No such file or directory" in problem
        assert texts(moved / "x.log") == [f"[WARNING] {problem}", "[ERROR] goes on"]

    def test_access_log(self, file: Path) -> None:
        """Lines that were waiting in memory go to the file that was open when they came."""
        log = AccessLog(str(file), "%(m)s")
        write(log)
        old = file.rename(file.with_suffix(".1"))
        assert log.reopen() == ""
        assert old.read_text() == "GET\n"
        assert file.read_text() == ""

    def test_access_log_failure(self, tmp_path: Path) -> None:
        """An access log that cannot be opened again goes on in the old file, with the reason after a #."""
        directory = tmp_path / "logs"
        directory.mkdir()
        log = AccessLog(str(directory / "x.log"), "%(m)s")
        write(log)
        moved = directory.rename(tmp_path / "moved")
        problem = log.reopen()
        write(log)
        log.close()
        assert (moved / "x.log").read_text() == f"GET\n# {problem}\nGET\n"


class TestLoss:
    def test_full_disk(self, tmp_path: Path, file: Path) -> None:
        """Nothing is raised while nothing can be written; afterwards the log says once what is missing."""
        path = tmp_path / "link"
        path.symlink_to("/dev/full")
        log = ErrorLog(str(path), "info")
        log.info("one")
        log.info("two", detail="with\ndetail")
        path.unlink()
        path.symlink_to(file)
        log.reopen()
        log.info("five")
        log.info("six")
        assert texts(file) == ["[WARNING] 4 log lines were lost", "[INFO] five", "[INFO] six"]

    def test_torn_line(self, file: Path) -> None:
        """A line that only its beginning was written of does not run into the next one."""
        log = ErrorLog(str(file), "info")
        with limited(resource.RLIMIT_FSIZE, 100):
            log.info("x" * 200)
            log.info("lost too")
        log.info("again")
        first, *others = texts(file)
        assert re.fullmatch(r"\[INFO\] x{20,99}", first)
        assert others == ["[WARNING] 2 log lines were lost", "[INFO] again"]

    def test_notice_torn(self, file: Path) -> None:
        """When the disk fills up again during the notice, nothing is forgotten and no line is glued."""
        log = ErrorLog(str(file), "info")
        with limited(resource.RLIMIT_FSIZE, 0):
            log.info("one")
        with limited(resource.RLIMIT_FSIZE, 50):
            log.info("two")
        log.info("three")
        first, *others = texts(file)
        assert first.startswith("[WARNING] ")
        assert not first.endswith("lost")
        assert others == ["[WARNING] 2 log lines were lost", "[INFO] three"]

    def test_some_access_lines(self, file: Path) -> None:
        """Of a buffer that is written in part, only the rest counts as lost."""
        log = AccessLog(str(file), "%(m)s")
        for _ in range(10):
            write(log)
        with limited(resource.RLIMIT_FSIZE, 4 * 6 + 2):
            log.flush()
        write(log)
        log.flush()
        assert file.read_text() == "GET\n" * 6 + "GE\n# 4 log lines were lost\nGET\n"

    def test_one_line(self, file: Path) -> None:
        """The notice has its singular."""
        log = AccessLog(str(file), "%(m)s")
        for limit in (0, 1000):
            write(log)
            with limited(resource.RLIMIT_FSIZE, limit):
                log.flush()
        assert file.read_text() == "# 1 log line was lost\nGET\n"

    def test_full_pipe(self) -> None:
        """A stderr that is non-blocking and full loses lines, and goes on when it is read again."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        with stream_replaced(2, writer):
            log = ErrorLog("-", "info")
            for _ in range(200):
                log.info("x" * 1000)
            os.read(reader, 1 << 20)
            log.info("again")
        written = os.read(reader, 1 << 20).decode().splitlines()
        os.close(reader)
        os.close(writer)
        assert re.search(r"\[WARNING\] \d+ log lines were lost$", written[-2])
        assert written[-1].endswith("[INFO] again")

    def test_pipe_of_several(self, tmp_path: Path) -> None:
        """Lines that several processes write to one pipe stay whole, however full it is.

        Nobody waits long for its reader: what that is too slow for is lost, and counted.
        """
        near, far = os.pipe()
        pids = []
        for letter in b"abc":
            pid = os.fork()
            if pid == 0:
                os.dup2(far, 1)
                log = AccessLog("-", "%({X}e)s")
                for _ in range(400):
                    write(log, ENTRY._replace(params={b"X": bytes([letter]) * 200}))
                log.close()
                os._exit(0)
            pids.append(pid)
        os.close(far)
        with open(near, "rb") as reader:
            lines = reader.read().splitlines()
        for pid in pids:
            os.waitpid(pid, 0)
        lost = sum(int(line.split()[1]) for line in lines if line.startswith(b"# "))
        whole = [line for line in lines if not line.startswith(b"# ")]
        assert 600 < len(whole) <= 1200 - lost
        assert {line for line in whole if len(set(line)) != 1 or len(line) != 200} == set()

    def test_closed_pipe(self, tmp_path: Path) -> None:
        """A pipe whose reader has gone does not end the process or raise."""
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        log = ErrorLog(str(path), "info")
        os.close(reader)
        log.info("one")
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        log.info("two")
        written = os.read(reader, 4096).decode().splitlines()
        os.close(reader)
        assert [line.partition("] [")[2].partition("] ")[2] for line in written] == [
            "[WARNING] 1 log line was lost",
            "[INFO] two",
        ]

    def test_closed_log(self, file: Path) -> None:
        """A closed log writes nothing, not even to the file that has its descriptor now."""
        log = ErrorLog(str(file), "info")
        log.close()
        with file.open("a"):
            log.info("one")
            log.close()
        assert file.read_text() == ""

    def test_short_writes(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A system that takes a few bytes at a time still gets the whole line."""
        write = os.write
        log = ErrorLog(str(file), "info")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
            log.info("a line that needs many writes")
        assert texts(file) == ["[INFO] a line that needs many writes"]


class TestAccessFormat:
    @pytest.mark.parametrize(
        ("format", "expected"),
        [
            ("%(h)s", "192.0.2.7"),
            ("%(l)s", "-"),
            ("%(u)s", "ada"),
            ("%(t)s", "[22/Nov/2026:17:32:09 +0530]"),
            ("%(r)s", "GET /shop/item.lua?id=7 HTTP/1.1"),
            ("%(m)s", "GET"),
            ("%(U)s", "/shop/item.lua"),
            ("%(q)s", "id=7"),
            ("%(H)s", "HTTP/1.1"),
            ("%(s)s", "200"),
            ("%(B)s", "5120"),
            ("%(b)s", "5120"),
            ("%(f)s", "http://example.org/"),
            ("%(a)s", "curl/8.5.0"),
            ("%(T)s", "1"),
            ("%(M)s", "1000"),
            ("%(D)s", "1000603"),
            ("%(L)s", "1.000603"),
            pytest.param("%(p)s", f"<{os.getpid()}>", id="%(p)s-process"),
            ("%({X-Forwarded-For}i)s", "198.51.100.1"),
            ("%({content-type}i)s", "text/plain"),
            ("%({content-type}o)s", "text/html"),
            ("%({STATUS}o)s", "200 OK"),
            ("%({x-cache}o)s", "HIT"),
            ("%({SCRIPT_FILENAME}e)s", "/srv/item.lua"),
            ("100%% é\t%(m)s%(m)s", "100% é\tGETGET"),
            (
                DEFAULT_FORMAT,
                '192.0.2.7 - ada [22/Nov/2026:17:32:09 +0530] "GET /shop/item.lua?id=7 HTTP/1.1" 200 5120 '
                + '"http://example.org/" "curl/8.5.0" 1000603',
            ),
        ],
    )
    def test_directives(self, file: Path, clock: Callable[[float], None], format: str, expected: str) -> None:
        """Each letter gives what it gives in gunicorn."""
        clock(NOON)
        assert access_line(file, format) == expected

    @pytest.mark.parametrize(
        ("format", "expected"),
        [
            ("%(h)s %(u)s %(U)s %(q)s %(f)s %(a)s", "- - - - - -"),
            ("%(r)s", "- - -"),
            ("%(B)s %(b)s", "0 -"),
            ("%({Host}i)s %({x.cache}o)s %({cache}o)s %({X-Empty}o)s %({NONE}e)s", "- - - - -"),
        ],
    )
    def test_missing(self, file: Path, format: str, expected: str) -> None:
        """What is missing or empty is a dash, and a length of nothing is 0 or a dash."""
        assert access_line(file, format, Entry({b"REMOTE_USER": b""}, 204, 0, 0.0, HEAD)) == expected

    @pytest.mark.parametrize("format", ['"%(r)s" %(s)s %(D)s', '"%(r)s" %(s)s %(M)s'])
    def test_percent_signs(self, file: Path, format: str) -> None:
        """Whatever stands behind them in a value, they are what they are."""
        entry = Entry({b"REQUEST_METHOD": b"%s", b"REQUEST_URI": b"/%20%d%%(s)s%"}, 200, 1, 0.0, b"")
        assert access_line(file, f"100%% {format}", entry) == '100% "%s /%20%d%%(s)s% -" 200 0'

    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ({b"SCRIPT_NAME": b"/a.lua", b"PATH_INFO": b"/b"}, "- /a.lua/b - /a.lua/b"),
            ({b"SCRIPT_NAME": b"/a.lua", b"QUERY_STRING": b"q=1"}, "- /a.lua?q=1 - /a.lua"),
            ({b"REQUEST_URI": b"/x%20y?a?b"}, "- /x%20y?a?b - /x%20y"),
        ],
    )
    def test_target(self, file: Path, params: dict[bytes, bytes], expected: str) -> None:
        """The target is the one that the client sent, or is put together when the web server sends none."""
        assert access_line(file, "%(r)s %(U)s", Entry(params, 200, 1, 0.0, b"")) == expected

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            (b'x" 200 - "', r'"x\" 200 - \""'),
            (b"x\\", r'"x\\"'),
            (b'x\\"', r'"x\\\""'),
            (b"a\r\nb\x1b[2J\x7f", r'"a\r\nb\x1b[2J\x7f"'),
            ("é\u202e\x85".encode(), r'"é\u202e\u0085"'),
            (b"\xff%s", r'"\xff%s"'),
        ],
    )
    @pytest.mark.parametrize("literal", ["", '"\t\\'])
    def test_values_are_escaped(self, file: Path, agent: bytes, expected: str, literal: str) -> None:
        """No value ends its line or its quotes, whatever stands in the format beside it."""
        entry = Entry({b"HTTP_USER_AGENT": agent}, 200, 1, 0.5, b"")
        assert access_line(file, f'{literal}"%(a)s" %(s)s', entry) == f"{literal}{expected} 200"

    @given(agent=st.binary(), head=st.binary())
    def test_one_line_each(self, tmp_path_factory: pytest.TempPathFactory, agent: bytes, head: bytes) -> None:
        """Whatever a client or a script sends, a request is one line with the quotes of its format."""
        file = tmp_path_factory.getbasetemp() / "any.log"
        entry = Entry({b"HTTP_USER_AGENT": agent}, 200, 1, 0.5, b"X: " + head)
        line = access_line(file, '"%(a)s" "%({x}o)s"', entry)
        assert re.fullmatch(r'"(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*"', line)
        assert line.isprintable()

    @pytest.mark.parametrize(
        ("format", "found"),
        [
            ("%(h)s %(z)s", 'the unknown %(z)s at character 7 of "%(h)s %(z)s"'),
            ("%(hh)s", 'the unknown %(hh)s at character 1 of "%(hh)s"'),
            ("%()s", 'the unknown %()s at character 1 of "%()s"'),
            ("%({Host}x)s", 'the unknown %({Host}x)s at character 1 of "%({Host}x)s"'),
            ("%({Host}h)s", 'the unknown %({Host}h)s at character 1 of "%({Host}h)s"'),
            ("%(i)s", 'the unknown %(i)s at character 1 of "%(i)s"'),
            ("%({}i)s", 'a stray percent sign at character 1 of "%({}i)s"'),
            ("%%%(h)s 5%", 'a stray percent sign at character 10 of "%%%(h)s 5%"'),
            ("%(h)d", 'a stray percent sign at character 1 of "%(h)d"'),
        ],
    )
    def test_bad_format(self, file: Path, format: str, found: str) -> None:
        """A mistake in the format is one line that says what, where, and what is known."""
        with pytest.raises(ConfigError) as error:
            AccessLog(str(file), format)
        assert str(error.value).startswith(f"access_log_format: found {found}; expected %(h)s, %(l)s, ")
        assert str(error.value).endswith("%({name}i)s, %({name}o)s, %({name}e)s or %%")
        assert not file.exists()

    @pytest.mark.parametrize("ending", ["\n", "\r"])
    def test_line_break_in_format(self, file: Path, ending: str) -> None:
        """A format of two lines is refused."""
        with pytest.raises(ConfigError) as error:
            AccessLog(str(file), "%(h)s" + ending)
        found = escape("%(h)s" + ending)
        assert str(error.value) == f'access_log_format: found a line break in "{found}"; expected one line'


class TestJson:
    @given(st.text(st.characters()) | st.binary(), st.text(st.characters()) | st.binary())
    def test_error_log(self, tmp_path_factory: pytest.TempPathFactory, text: str | bytes, detail: str | bytes) -> None:
        """Whatever is logged, a line is one object in ASCII, without anything that a terminal would obey."""
        file = tmp_path_factory.mktemp("json") / "x.log"
        log = ErrorLog(str(file), "debug", as_json=True)
        log.error(text, detail)
        log.close()
        written = file.read_bytes()
        assert written.endswith(b"\n")
        assert written[:-1].isascii()
        assert written[:-1].decode().isprintable()
        found = json.loads(written)
        assert (found["level"], found["pid"]) == ("error", os.getpid())
        if isinstance(text, str) and not re.search("[\ud800-\udfff]", text):
            assert found["message"] == text
        assert ("detail" in found) == bool(detail)

    def test_error_line(self, file: Path, clock: Callable[[float], None]) -> None:
        """The members of an object, and a time as RFC 3339 has it."""
        clock(NOON)
        log = ErrorLog(str(file), "info", as_json=True)
        log.debug("not written")
        log.warning(b"caf\xe9 \xc3\xa9", "a\n\tb")
        log.close()
        head = f'{{"time": "2026-11-22T17:32:09+05:30", "pid": {os.getpid()}, "level": "warning", '
        assert file.read_text() == head + r'"message": "caf\\xe9 \u00e9", "detail": "a\n\tb"}' + "\n"

    @pytest.mark.parametrize(
        ("format", "expected"),
        [
            (DEFAULT_FORMAT, {
                "remote_addr": "192.0.2.7", "user": "ada", "time": "2026-11-22T17:32:09+05:30",
                "request": "GET /shop/item.lua?id=7 HTTP/1.1", "status": 200, "bytes": 5120,
                "referer": "http://example.org/", "user_agent": "curl/8.5.0", "microseconds": 1000603,
            }),
            ("100%% %(m)s %(U)s?%(q)s %(H)s %(M)s %(L)s", {
                "method": "GET", "path": "/shop/item.lua", "query": "id=7", "protocol": "HTTP/1.1",
                "milliseconds": 1000, "seconds": 1.000603,
            }),
            ("%({X-Forwarded-For}i)s %({x-cache}o)s %({NONE}e)s %(p)s", {
                "{X-Forwarded-For}i": "198.51.100.1", "{x-cache}o": "HIT", "{NONE}e": None, "pid": os.getpid(),
            }),
        ],
    )  # fmt: skip
    def test_access_log(
        self, file: Path, clock: Callable[[float], None], format: str, expected: dict[str, object]
    ) -> None:
        """The letters of the format are the members of the object."""
        clock(NOON)
        log = AccessLog(str(file), format, as_json=True)
        write(log)
        log.close()
        assert json.loads(file.read_bytes()) == expected

    @given(st.binary(), st.binary())
    def test_access_values(self, tmp_path_factory: pytest.TempPathFactory, agent: bytes, target: bytes) -> None:
        """Whatever clients send, a line is one object in ASCII."""
        file = tmp_path_factory.mktemp("json") / "x.log"
        log = AccessLog(str(file), DEFAULT_FORMAT, as_json=True)
        write(log, ENTRY._replace(params={b"HTTP_USER_AGENT": agent, b"REQUEST_URI": target}))
        log.close()
        written = file.read_bytes()
        assert written[:-1].isascii()
        assert written[:-1].decode().isprintable()
        assert set(json.loads(written)) >= {"request", "user_agent"}

    @pytest.mark.parametrize("kind", ["access", "error"])
    def test_loss(self, file: Path, kind: str) -> None:
        """A message of a log about itself is an object, too."""
        log: AccessLog | ErrorLog = AccessLog(str(file), "%(m)s", as_json=True)
        if kind == "error":
            log = ErrorLog(str(file), "info", as_json=True)
        for limit in (0, 10_000):
            with limited(resource.RLIMIT_FSIZE, limit):
                if isinstance(log, AccessLog):
                    write(log)
                    log.flush()
                else:
                    log.info("x")
        log.close()
        found = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(found) == 2
        assert found[0]["notice" if kind == "access" else "message"] == "1 log line was lost"

    def test_all_logs_of_a_server(self, serve: Callable[..., Server]) -> None:
        """With log_format = "json", each line of every log is one object, those of a script included."""
        text = "function main(env, con) con:log('warning', 'a\\nb') con:sleep(0.1) error({}) end"
        settings = 'log_format = "json"\naccesslog = "access.log"\nslowlog = "slow.log"\nslowlog_timeout = 0.05\n'
        server = serve({"x.lua": text}, settings)
        assert server.get("x.lua").status == 500
        assert server.stop() == 0
        logs = {name: (server.folder / name).read_text() for name in ("stderr.log", "access.log", "slow.log")}
        found = {name: [json.loads(line) for line in text.splitlines()] for name, text in logs.items()}
        assert [line["status"] for line in found["access.log"]] == [500]
        assert "slow: running for 0.1 s" in found["slow.log"][0]["message"]
        assert "x.lua:1: in " in found["slow.log"][0]["detail"]
        assert any(line["message"].endswith("x.lua: GET /x.lua: a\nb") for line in found["stderr.log"])


class TestAccessFile:
    def test_flush(self, file: Path) -> None:
        """Lines wait in memory until they are flushed."""
        log = AccessLog(str(file), "%(m)s")
        write(log)
        assert file.read_bytes() == b""
        log.flush()
        assert file.read_bytes() == b"GET\n"
        log.flush()
        write(log)
        log.close()
        assert file.read_bytes() == b"GET\nGET\n"

    def test_pipe(self, tmp_path: Path) -> None:
        """A named pipe gets every line, however slowly it is read."""
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        log = AccessLog(str(path), "%(a)s")
        with open(reader, "rb") as stream, ThreadPoolExecutor(1) as executor:
            received = executor.submit(stream.read)
            for _ in range(300):
                write(log, ENTRY._replace(params={b"HTTP_USER_AGENT": b"x" * 1000}))
            log.close()
            assert len(received.result(timeout=10)) == 300 * 1001

    def test_full_buffer(self, file: Path) -> None:
        """A full buffer is written without a flush, in whole lines."""
        log = AccessLog(str(file), "%(m)s")
        lines = BUFFER_SIZE // 4
        for _ in range(lines):
            write(log)
        assert file.read_bytes() == b""
        write(log)
        assert file.read_bytes() == b"GET\n" * (lines + 1)

    def test_order(self, file: Path) -> None:
        """Lines stand in the order in which requests end, however much or little work they are."""
        log = AccessLog(str(file), "%(a)s %(r)s %(b)s %(s)s")
        agents = [b"plain", b"", b'"', b"x" * 5000, b"%d"] * 60
        for number, agent in enumerate(agents):
            params = {b"HTTP_USER_AGENT": agent, b"REQUEST_URI": b"/" * (number % 4)}
            write(log, Entry(params, 200 + number, number, 0.0, HEAD))
        log.close()
        expected = [b"%d %d" % (number, 200 + number) if number else b"- 200" for number in range(len(agents))]
        assert [line.partition(b" - ")[2].split(b" - ")[-1] for line in file.read_bytes().splitlines()] == expected

    def test_lengths(self, file: Path) -> None:
        """Of more lengths than are remembered, each is right."""
        log = AccessLog(str(file), "%(b)s")
        lengths = [*range(3000), *range(3000)]
        for length in lengths:
            write(log, ENTRY._replace(sent=length))
        log.close()
        assert file.read_text().split() == [str(length) if length else "-" for length in lengths]

    @pytest.mark.parametrize("as_json", [False, True])
    def test_seconds(self, file: Path, clock: Callable[[float], None], as_json: bool) -> None:
        """A line says when its request ended, not when it was written."""
        log = AccessLog(str(file), "%(t)s", as_json=as_json)
        for seconds in (0.25, 0.5, 2.5, 2.75):
            clock(NOON + seconds)
            write(log, ENTRY._replace(seconds=seconds))
        clock(NOON + 60)
        log.close()
        assert [int(re.findall(r":(\d\d)[ +]", line)[0]) for line in file.read_text().splitlines()] == [9, 9, 11, 11]

    def test_stdout(self, capfd: pytest.CaptureFixture[str]) -> None:
        """The path "-" is stdout, which close leaves open."""
        log = AccessLog("-", "%(m)s")
        write(log)
        log.close()
        os.write(1, b"still open\n")
        assert capfd.readouterr().out == "GET\nstill open\n"

    def test_cannot_open(self) -> None:
        """A path that cannot be opened is one line that names the setting."""
        with pytest.raises(ConfigError, match=r'^accesslog: cannot open "/nonexistent/x": No such file'):
            AccessLog("/nonexistent/x", "%(m)s")

    def test_month_names(self, file: Path, clock: Callable[[float], None]) -> None:
        """The months have their English names."""
        names = "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
        for month, name in enumerate(names, 1):
            clock(time.mktime((2026, month, 10, 1, 2, 3, 0, 0, 0)))
            assert access_line(file, "%(t)s") == f"[10/{name}/2026:01:02:03 +0530]"
