"""`greenfcgi --init TARGET [--write DIR]`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from greenfcgi.deploy.targets import TARGETS
from greenfcgi.deploy.template import fill


def init(folder: Path, *arguments: str, config: str = "") -> subprocess.CompletedProcess[str]:
    """The command with a config.toml in `folder`."""
    (folder / "lua_scripts").mkdir(exist_ok=True)
    (folder / "config.toml").write_text(config)
    command = [sys.executable, "-m", "greenfcgi", "--init", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_printed_and_written(target: str, tmp_path: Path) -> None:
    """What is written is what is printed, and no place is left."""
    printed = init(tmp_path, target)
    assert (printed.returncode, printed.stderr) == (0, "")
    written = init(tmp_path, target, "--write", "new/folder")
    assert written.returncode == 0
    assert written.stdout.splitlines() == [f"new/folder/{file.path}" for file in TARGETS[target].files]
    for file in TARGETS[target].files:
        text = (tmp_path / "new" / "folder" / file.path).read_text()
        assert text in printed.stdout
        assert (tmp_path / "new" / "folder" / file.path).stat().st_mode & 0o111 == file.mode & 0o111


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nigx"], "--init: found 'nigx', did you mean \"nginx\"?"),
        (["x"], "--init: found 'x', known are site, nginx, "),
        (["nginx", "--write", "lua_scripts/.."], "--write: found files in lua_scripts/.., expected an empty directory"),
        (["nginx", "--write", "config.toml"], "--write: config.toml: File exists"),
        (["nginx", "--write", "/proc/none"], "--write: /proc/none: "),
        (["nginx", "--write", ""], "--write: found '', expected a directory"),
    ],
)
def test_what_is_refused(arguments: list[str], problem: str, tmp_path: Path) -> None:
    """One line, and nothing is written."""
    done = init(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"greenfcgi: {problem}")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "lua_scripts"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('bind = "fd://3"', '--init: found bind = "fd://3", expected a unix socket with a path, or a TCP port'),
        ('bind = "unix:a$b.sock"', "expected a unix socket with a path, or a TCP port"),
        ('[scripts]\nroot = "a{b"', "--init: found '{' in "),
        ('status_path = "/status.lua"', "--init: found '/status.lua', expected a path that is no script's"),
        ("worker = 3", 'config.toml: worker: unknown setting, did you mean "workers"?'),
    ],
)
def test_settings_that_files_cannot_have(config: str, problem: str, tmp_path: Path) -> None:
    """One line that says which."""
    (tmp_path / "a{b").mkdir()
    done = init(tmp_path, "nginx", config=config)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("keepalive", "seconds"), [("75", 50), ("15", 10), ("300", 60), ("0.5", 1)])
def test_the_web_server_closes_first(keepalive: str, seconds: int, tmp_path: Path) -> None:
    """What nginx keeps is closed before greenfcgi would: a POST is not sent again when it comes at that moment."""
    done = init(tmp_path, "nginx", config=f"keepalive = {keepalive}")
    assert f"    keepalive_timeout {seconds}s;" in done.stdout


def test_without_a_configuration(tmp_path: Path) -> None:
    """It is asked for."""
    command = [sys.executable, "-m", "greenfcgi", "--init", "nginx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "greenfcgi: config.toml: cannot be read: No such file or directory\n"


class TestTemplates:
    def test_places_and_conditions(self) -> None:
        """Lines between @if ...@ and @end@ are there or not."""
        template = "a @x@\n@if x@\nyes\n  @if not y@\nand no y\n  @end@\n@end@\n@if y@\nnever @z@\n@end@\nend"
        assert fill(template, {"x": "1", "y": ""}) == "a 1\nyes\nand no y\nend\n"

    @pytest.mark.parametrize("template", ["@end@", "@if x@", "@if x@\n@end@\n@end@"])
    def test_conditions_that_do_not_match(self, template: str) -> None:
        """They are mistakes of the template."""
        with pytest.raises(ValueError, match=r"@end@"):
            fill(template, {"x": "1"})
