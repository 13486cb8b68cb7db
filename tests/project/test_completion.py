"""`--completion`: what the shells themselves make of it, with the key that completes pressed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenfcgi.command_line import OPTIONS, SHELLS
from greenfcgi.config.load import describe
from greenfcgi.deploy.targets import TARGETS

from ..support.command import environment, run
from ..support.running import PATIENCE

#: What completes a command that ends in it.
Complete = Callable[[str], str]
_READY = "ready>"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with something to complete."""
    for name in ("site.toml", "body.txt"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    return tmp_path


def script(shell: str) -> str:
    """What the command prints for a shell; the test is skipped where that is missing, and fails in CI."""
    if shutil.which(shell) is None:
        assert os.environ.get("CI") != "true", f"{shell} is missing"
        pytest.skip(f"{shell} is missing")
    result = run(Path("/"), "--completion", shell)
    assert (result.status, result.err) == (0, ""), result
    return result.out


class Terminal:
    """A shell that someone types into: bash or zsh, with nothing of a user's."""

    def __init__(self, shell: str, folder: Path) -> None:
        (folder / "completion").write_text(script(shell))
        (folder / "greenfcgi").write_text('#!/bin/sh\nprintf "<%s>" "$@"; echo\n')
        (folder / "greenfcgi").chmod(0o755)
        command = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
        env = environment(
            {"TERM": "dumb", "PATH": f"{folder}:{os.environ['PATH']}", "PS1": _READY, "HOME": str(folder)}
        )
        self._near, far = pty.openpty()
        self._process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=far, stdout=far, stderr=far, start_new_session=True
        )
        os.close(far)
        if shell == "zsh":
            self._enter("unsetopt zle_bracketed_paste; autoload -U compinit && compinit -u -D\n")
        self._enter("source ./completion\n")

    def complete(self, text: str) -> str:
        """The arguments of `greenfcgi` with `text` behind it, when the key has been pressed."""
        found = re.findall(r"^(?:<[^\r\n]*>)\r?$", self._enter(f"greenfcgi {text}\t\n"), re.MULTILINE)
        return str(found[-1]).strip("\r")

    def _enter(self, keys: str) -> str:
        """Press keys, and wait for the prompt that follows the line."""
        mark = f"done{time.monotonic_ns()}"
        os.write(self._near, keys.encode())
        # What is typed while a command runs would be shown in the midst of what it prints.
        seen = self._read("", lambda seen: "\n" in seen and _READY in seen.rpartition("\n")[2])
        os.write(self._near, f"echo {mark[:4]}''{mark[4:]}\n".encode())
        return self._read(seen, lambda seen: _READY in seen.partition(mark)[2])

    def _read(self, seen: str, is_whole: Callable[[str], bool]) -> str:
        """What is shown, behind what has been seen, until it is whole."""
        deadline = time.monotonic() + PATIENCE
        while not is_whole(seen):
            assert time.monotonic() < deadline, seen
            if select.select([self._near], [], [], 0.1)[0]:
                seen += os.read(self._near, 65536).decode(errors="replace")
        return seen

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._near)


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, files: Path) -> Iterator[Complete]:
    """What completes a command in each shell: "-t" becomes "<-t>", and of several arguments each is in brackets."""
    if request.param != "fish":
        terminal = Terminal(request.param, files)
        yield terminal.complete
        terminal.close()
        return
    (files / "completion").write_text(script("fish"))

    def by_fish(text: str) -> str:
        done = subprocess.run(
            ["fish", "--no-config", "-c", "source completion; complete -C $argv[1]", f"greenfcgi {text}"], cwd=files,
            env=environment({"HOME": str(files)}), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        *before, last = text.split(" ")
        return "".join(f"<{word}>" for word in [*before, found[0] if len(found) == 1 else last])

    yield by_fish


def test_in_each_shell(complete: Complete) -> None:
    """Options, names of settings and files behind them, targets, shells; configurations where none is asked for."""
    for text, expected in (
        ("--chec", "<--check-config>"),
        ("--set scripts.roo", "<--set><scripts.root=>"),
        ("--set=lua.tim", "<--set=lua.time_slice=>"),
        ("--set scripts.root=dee", "<--set><scripts.root=deep/>"),
        ("--init lig", "<--init><lighttpd>"),
        ("--init=lig", "<--init=lighttpd>"),
        ("--completion zs", "<--completion><zsh>"),
        ("-c si", "<-c><site.toml>"),
        ("--config=si", "<--config=site.toml>"),
        ("si", "<site.toml>"),
        ("-d @bo", "<-d><@body.txt>"),
        ("-F x=@bo", "<-F><x=@body.txt>"),
        ("--write de", "<--write><deep/>"),
        ("--write=", "<--write=deep/>"),
        ("--import bo", "<--import><body.txt>"),
        ("-w b", "<-w><b>"),
        ("--http b", "<--http><b>"),
    ):
        found = complete(text)
        # Some shells complete a folder without the slash, which comes with the next character.
        assert found.replace("deep>", "deep/>") == expected, text


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_left_out(shell: str) -> None:
    """Each option, setting and target is in the script, since it is made of their tables."""
    text = script(shell)
    for option in OPTIONS:
        for name in option.names:
            names = {"fish": f"-l {name[2:]} " if name.startswith("--") else f"-s {name[1:]} "}
            assert names.get(shell, name) in text, name
    for row in describe():
        assert f" {row.table}.{row.key}=" in text or f" {row.key}=" in text or f'"{row.key}=' in text, row
    assert all(target in text for target in TARGETS)
