"""The requests of one state: what `http.lua` calls. Lua numbers its requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ... import __version__
from ...errors import ConfigError
from ...lua.bridge import Bridge, ModuleFunction, Outcome
from ..sockets.operations import Waits

if TYPE_CHECKING:
    from .fetch import Fetch

#: Imported when it is needed: see `configured.import_shipped`.
LATE_IMPORTS: Final = ("h11", ".url", ".fetch", ".tls")
_USER_AGENT: Final = f"greenfcgi/{__version__}".encode()


class Requests:
    """Those that are under way. A failure is (nil, why, 0)."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._fetches: dict[float, Fetch] = {}
        bridge.at_end.append(self.close_all)
        bridge.at_close.append(self.close_all)

    # Each of these is called from Lua.

    def check(self, url: bytes, verify: bytes | bool) -> Outcome:
        """Look whether these can be used. Returns "", or (nil, what is wrong)."""
        from .url import BadUrl, parse

        try:
            scheme = parse(url.decode("latin-1")).scheme
            if isinstance(verify, bytes) and scheme == "https":
                self._verification(verify)
        except BadUrl as problem:
            return self._problem(f"url: found a URL that {problem}")
        except OSError as problem:
            return self._problem(f"verify: found a file that cannot be read: {problem.strerror}")
        return b""

    def start(
        self, number: float, method: bytes, url: bytes, headers: bytes, body: bytes | None, seconds: float,
        redirects: float, verify: bytes | bool, is_stream: bool,
    ) -> Outcome:  # fmt: skip
        """Begin a request, and see it through to the first part of the body: as `Fetch.start`.

        The header lines have "\\n" between them; without a body (None) `send` follows, and `answer`.
        """
        fetch = self._fetches.get(number)
        if fetch is None:
            if self._bridge.is_ending:
                return self._problem("the state is being closed")
            from .fetch import Fetch, Request
            from .url import parse

            lines = (line.partition(b": ") for line in headers.split(b"\n") if line)
            pairs = [(name, value) for name, _, value in lines]
            named = {name.lower() for name, _ in pairs}
            if b"user-agent" not in named:
                pairs.append((b"User-Agent", _USER_AGENT))
            decodes = b"accept-encoding" not in named
            if decodes:
                pairs.append((b"Accept-Encoding", b"gzip, deflate"))
            try:
                verification = self._verification(verify)
            except OSError as problem:
                return self._problem(f"verify: found a file that cannot be read: {problem.strerror}")
            fetch = self._fetches[number] = Fetch(
                Request(method.decode("ascii"), parse(url.decode("latin-1")), pairs, body, seconds, int(redirects),
                        verification, is_stream, decodes), self._bridge,
            )  # fmt: skip
        return self._run(number, "start", fetch.start)

    def send(self, number: float, part: bytes) -> Outcome:
        """See `Fetch.send`."""
        fetch = self._fetches.get(number)
        return self._run(number, "send", lambda: fetch.send(part)) if fetch is not None else self._is_closed()

    def answer(self, number: float) -> Outcome:
        """See `Fetch.answer`."""
        fetch = self._fetches.get(number)
        return self._run(number, "answer", fetch.answer) if fetch is not None else self._is_closed()

    def read(self, number: float) -> Outcome:
        """See `Fetch.read`."""
        fetch = self._fetches.get(number)
        return self._run(number, "read", fetch.read) if fetch is not None else self._is_closed()

    def close(self, number: float) -> None:
        """Nobody wants the rest of it."""
        fetch = self._fetches.pop(number, None)
        if fetch is not None:
            fetch.close()

    def close_all(self) -> None:
        """A run is over, or the state goes."""
        while self._fetches:
            self._fetches.popitem()[1].close()

    def _run(self, number: float, purpose: str, operation: Callable[[], Waits]) -> Outcome:
        fetch = self._fetches[number]
        try:
            outcome = fetch.operations.run(purpose, operation, self._bridge)
        except BaseException:
            self.close(number)
            raise
        if fetch.operations.is_idle and not fetch.is_active:
            self.close(number)
        return outcome

    def _verification(self, verify: bytes | bool) -> tuple[str | None, int]:
        """As `tls.Verification`; a file's name is relative to the script's folder. Raises `OSError`."""
        if isinstance(verify, bool):
            return ("" if verify else None), 0
        path = os.path.join(self._bridge.directory, os.fsdecode(verify))
        return path, os.stat(path).st_mtime_ns

    def _is_closed(self) -> Outcome:
        return self._problem("closed")

    def _problem(self, text: str) -> Outcome:
        return self._bridge.failure(text.encode("utf-8", "replace"))


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What `http.lua` calls, for one state. Raises `ConfigError` where h11 is missing."""
    try:
        import h11  # noqa: F401
    except ImportError:
        raise ConfigError("h11 is not installed: pip install 'greenfcgi[http]'") from None
    requests = Requests(bridge)
    own: tuple[ModuleFunction, ...] = (
        requests.check, requests.start, requests.send, requests.answer, requests.read, requests.close,
    )  # fmt: skip
    return {function.__name__: function for function in own}
