"""The developer mode for tests: `greenfcgi --dev` in a process of its own, plain HTTP, a real browser, ways to save."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .running import PATIENCE, Running, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Without these, it looks for hosts that are none of a test's business.
BROWSER_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


class Answer(NamedTuple):
    """A reply to an HTTP request; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body without what the developer mode puts at its end."""
        return re.sub(r'\n<script src="/-greenfcgi/live\.js"[^\n]*</script>\n', "", self.body.decode(errors="replace"))


class Developing(Running):
    """A folder of scripts that the developer mode shows. A context manager.

    `settings` is TOML for a config.toml beside it, `scripts` the same for its table of this name; without both, the
    folder alone is named. `port` 0 is any that is free.
    """

    def __init__(
        self,
        folder: Path,
        files: dict[str, str] | None = None,
        settings: str | None = None,
        port: int = 0,
        scripts: str = "",
    ):
        self.root = folder / "site"
        self.root.mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            self.write(name, text)
        self.log_path = folder / "terminal.log"
        self.port = port
        self._named = self.root
        if settings is not None or scripts:
            self._named = folder / "config.toml"
            text = f'{textwrap.dedent(settings or "")}\n[scripts]\nroot = "site"\n{scripts}\n'
            self._named.write_text(text)

    def start(self) -> None:
        """Start it, and wait until it serves."""
        with open(self.log_path, "ab") as log:
            before = self.log().count("Ctrl-C ends it")
            self.process = subprocess.Popen(
                [sys.executable, "-m", "greenfcgi", "--dev", str(self._named), "--http", f"127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: self.log().count("Ctrl-C ends it") > before or self.has_ended())
        found = re.findall(r"http://127\.0\.0\.1:(\d+)/", self.log())
        assert found, self.log()
        self.port = int(found[-1])

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it, as Ctrl-C does. Returns the exit status."""
        return super().stop(number)

    def __enter__(self) -> Developing:
        self.start()
        return self

    def url(self, path: str = "/") -> str:
        """The address of a page."""
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """One HTTP request; a header's name has underscores for dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, found, reply.read())
        finally:
            connection.close()


# The ways in which editors save a file


def _in_place(path: Path, text: str) -> None:
    """Emptied and written: nano, VS Code, a shell's redirection."""
    path.write_text(text)


def _by_rename(path: Path, text: str) -> None:
    """Written beside, and moved into the place: Sublime Text, JetBrains, gedit."""
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(text)
    os.replace(fresh, path)


def _with_backup(path: Path, text: str) -> None:
    """The old one is moved away, a new one is written: vim with backupcopy=no."""
    path.with_name("4913").touch()
    path.with_name("4913").unlink()
    backup = path.with_name(path.name + "~")
    os.replace(path, backup)
    path.write_text(text)
    path.chmod(0o644)
    backup.unlink()


def _in_pieces(path: Path, text: str) -> None:
    """In place, a few bytes at a time."""
    with open(path, "w") as file:
        for start in range(0, len(text), 7):
            file.write(text[start : start + 7])
            file.flush()


def _removed_first(path: Path, text: str) -> None:
    """Removed, and made anew: some synchronizers."""
    path.unlink()
    path.write_text(text)


def _by_link(path: Path, text: str) -> None:
    """The old one stays as a backup with another name: emacs with backup-by-copying off."""
    backup = path.with_name(path.name + "~")
    os.link(path, backup)
    fresh = path.with_name(f"#{path.name}#")
    fresh.write_text(text)
    os.replace(fresh, path)
    backup.unlink()


WAYS: dict[str, Callable[[Path, str], None]] = {
    "in place": _in_place,
    "by rename": _by_rename,
    "with backup": _with_backup,
    "in pieces": _in_pieces,
    "removed first": _removed_first,
    "by link": _by_link,
}
