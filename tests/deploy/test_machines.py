"""What `--init machines` takes from config.toml. `tests/programs/machines/` runs the files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from greenfcgi.config.load import load

from ..support.programs import program
from .test_init import init


def made(folder: Path, config: str) -> Path:
    """The folder with the files."""
    done = init(folder, "machines", "--write", "made", config=config)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "made"


def test_what_a_single_machine_has_not(tmp_path: Path) -> None:
    """A port, a path to ask, a Redis and a dictionary come from nowhere, and are the usual ones."""
    folder = made(tmp_path, 'bind = "unix:s.sock"\n[shared]\nurl = "unix:/run/redis.sock"\n')
    found = load(str(folder / "machine.toml"))
    assert list(map(str, found.bind)) == ["192.0.2.1:9000"]
    assert (found.ping_path, found.shared.url, found.shared.sizes) == (
        "/ping", "redis://192.0.2.20:6379/0", {"sessions": 16 * 2**20},
    )  # fmt: skip
    assert (found.scripts.root, found.app["key_file"]) == (str(tmp_path / "lua_scripts"), str(tmp_path / "session.key"))


def test_what_is_configured_stays(tmp_path: Path) -> None:
    """The port, the path, the Redis with its password, dictionaries and the key."""
    config = """
        bind = ["unix:s.sock", "127.0.0.1:7000"]
        ping_path = "/up"
        [shared]
        url = "redis://:p%40ss\\"w@redis.example/3"
        one = "2M"
        two = 1500000
        [app]
        key_file = "keys/site.key"
    """
    folder = made(tmp_path, config)
    found = load(str(folder / "machine.toml"))
    assert (str(found.bind[0]), found.ping_path) == ("192.0.2.1:7000", "/up")
    assert found.shared == load(str(tmp_path / "config.toml")).shared
    assert found.app["key_file"] == str(tmp_path / "keys" / "site.key")
    for name in ("haproxy.cfg", "nginx.conf"):
        assert (folder / name).read_text().count(":7000") == 3
    assert '/up"' in (folder / "haproxy.cfg").read_text()


@pytest.mark.parametrize("config", ["", 'status_path = "/status"\n[scripts]\nextensions = [".lua", ".lp"]'])
def test_haproxy_takes_it(config: str, tmp_path: Path) -> None:
    """As it is, without a warning."""
    folder = made(tmp_path, config)
    command = [program("haproxy"), "-c", "-f", str(folder / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
