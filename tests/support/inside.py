"""A Lua state in the process of the tests: a script, a request made up for it, and what it answered. No server."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import gevent

from greenfcgi.config.load import load
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.response import Reply
from greenfcgi.logs.error_log import ErrorLog
from greenfcgi.lua.bridge import Waitable
from greenfcgi.lua.engine import LuaEngine
from greenfcgi.lua.loader import StateLoader
from greenfcgi.lua.state import LuaFailure, State
from greenfcgi.modules.configured import modules
from greenfcgi.modules.shared.stores import stores_of
from greenfcgi.scripts.catalogue import Catalogue

#: Every Lua that lupa ships. They live side by side in one process as long as no native module is allowed.
FLAVOURS = ("luajit21", "luajit20", "lua51", "lua52", "lua53", "lua54", "lua55")


class Request:
    """A request that no web server sent. It keeps what is sent back, part by part."""

    def __init__(
        self,
        params: Mapping[str, str] | bytes = b"",
        body: bytes = b"",
        *,
        head_only: bool = False,
        seconds: float = 30.0,
    ) -> None:
        self.title = "GET /page.lua"
        self.params = params if isinstance(params, bytes) else encoded(*params.items())
        self.head_only = head_only
        #: (status, header block, part of the body) of each `send`.
        self.parts: list[tuple[int, bytes, bytes]] = []
        #: What `body_problem` tells; what `read` fails with; whether the client has gone.
        self.problem = ""
        self.failure: OSError | None = None
        self.gone = False
        #: Seconds of each `sleep`.
        self.slept: list[float] = []
        self.deadline = monotonic() + seconds
        #: Its script has sent the reply before its end.
        self.is_answered = False
        self._body = body

    @property
    def aborted(self) -> bool:
        """The client has gone."""
        return self.gone

    def send(self, status: int, head: bytes, data: bytes) -> None:
        """Keep a part of the reply."""
        self.parts.append((status, head, data))

    def answer_early(self, reply: Reply, is_whole: bool) -> None:
        """Keep the rest of the reply."""
        self.parts.append(reply)
        self.is_answered = True

    def drain(self, seconds: float) -> bool:
        """All has left at once."""
        return True

    def read(self, most: int) -> bytes:
        """The next bytes of the body."""
        if self.failure is not None:
            raise self.failure
        size = len(self._body) if most < 0 else min(most, len(self._body))
        data, self._body = self._body[:size], self._body[size:]
        return data

    def body_problem(self) -> str:
        """How the body differs from CONTENT_LENGTH."""
        return self.problem

    def sleep(self, seconds: float) -> None:
        """Note it, and do not wait."""
        self.slept.append(seconds)

    def wait(self, event: Waitable, seconds: float) -> None:
        """Wait for the event."""
        event.wait(seconds)

    def computes_long(self) -> None:
        """Nobody else waits for a turn."""


class Answer(NamedTuple):
    """The whole reply to a `Request`; `failure` when the script ended in an error."""

    status: int
    head: bytes
    body: bytes
    failure: LuaFailure | None

    @property
    def lines(self) -> list[str]:
        """The header lines."""
        assert self.head.endswith(b"\r\n\r\n"), self.failure or self.head
        *lines, status = self.head.decode()[:-4].split("\r\n")
        # It stands last on the wire, and first here, where people look for it.
        return [status, *lines]

    @property
    def text(self) -> str:
        """The body of a script that did not fail."""
        assert self.failure is None, self.failure
        return self.body.decode()

    @property
    def error(self) -> str:
        """The message of a script that failed."""
        assert self.failure is not None, self.body[:1000]
        return self.failure.message


def encoded(*pairs: tuple[str | bytes, str | bytes]) -> bytes:
    """A PARAMS stream."""
    return records.encode_pairs(
        tuple(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text for text in pair)  # type: ignore[misc]
        for pair in pairs
    )


def run_python(
    program: str, *arguments: str, seconds: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which can import `tests`: Lua may bring it down, or never end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], cwd=Path(__file__).parents[2],
        env=os.environ | environment, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip


class Inside:
    """Scripts in a folder and one flavour of Lua; `settings` is TOML as in config.toml."""

    def __init__(self, folder: Path, version: str = "luajit21", settings: str = "") -> None:
        self.root = folder / "lua_scripts"
        self.root.mkdir(parents=True, exist_ok=True)
        settings = textwrap.dedent(settings)
        if "[lua]\n" not in settings:
            settings += "\n[lua]\n"
        settings = settings.replace("[lua]\n", f'[lua]\nversion = "{version}"\n')
        path = folder / "config.toml"
        path.write_text('errorlog = "error.log"\nloglevel = "debug"\n' + settings)
        self._log_path = folder / "error.log"
        self._log_start = 0
        config = load(str(path))
        self._log = ErrorLog(config.errorlog, config.loglevel)
        self.engine = LuaEngine(config, self._log, modules(config))
        self.loader = StateLoader(self.engine)
        self._catalogue = Catalogue(config.scripts.root, config.scripts.extensions)

    def close(self) -> None:
        """Let the log go, and the dictionaries and the databases that its scripts have used."""
        self._log.close()
        if self.engine.config.shared.sizes:
            stores_of(self.engine.config.shared).close()
        if pool := sys.modules.get("greenfcgi.modules.sql.pool"):
            # Connections that have just been given back are idle only when the event loop has heard of it.
            gevent.sleep(0.001)
            pool.close_all()

    def log(self) -> str:
        """The error log so far, from where it was forgotten."""
        return self._log_path.read_text()[self._log_start :]

    def forget_log(self) -> None:
        """Begin a new log."""
        self._log_start += len(self.log())

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(textwrap.dedent(text).encode() if isinstance(text, str) else text)
        return path

    def load(self, text: str | bytes | None = None, name: str = "page.lua") -> State:
        """A state that holds the script `name`, which is written first unless `text` is None."""
        if text is not None:
            self.write(name, text)
        script = self._catalogue.find(str(self.root / name).encode())
        script.version = script.new_version()
        return self.loader.make(script)

    def main(self, statements: str, request: Request | None = None) -> Answer:
        """What a script answers whose handler, with `env` and `con`, is made of these statements."""
        state = self.load(f"function main(env, con)\n{textwrap.dedent(statements)}\nend\n")
        try:
            return self.run(state, request)
        finally:
            state.close()

    @staticmethod
    def run(state: State, request: Request | None = None) -> Answer:
        """Answer one request in a state."""
        request = request or Request()
        result = state.run(request)
        parts = request.parts
        failure = result if isinstance(result, LuaFailure) else None
        if not isinstance(result, LuaFailure) and not request.is_answered:
            parts = [*parts, result]
        assert all(not status and not head for status, head, _ in parts[1:]), "the header block was sent twice"
        status, head = parts[0][:2] if parts else (0, b"")
        return Answer(status, head, b"".join(data for _, _, data in parts), failure)
