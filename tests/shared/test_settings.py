"""[shared] in config.toml: what it can hold, what is said of anything else, and of what is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from greenfcgi.config.load import dump, load
from greenfcgi.config.shared import RedisAddress, Shared
from greenfcgi.errors import ConfigError

from ..support.inside import Inside
from ..support.running import PATIENCE

URLS = '"redis://HOST:PORT/NUMBER", "rediss://..." with TLS, "unix:/PATH", or "" for this machine'
NAMES = "names that Lua functions can have, of at most 64 characters"
SIZES = 'a size in bytes or as text such as "16M", at least 1M'


def read(folder: Path, text: str) -> Shared:
    """The table of a configuration."""
    (folder / "lua_scripts").mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(f"[shared]\n{text}\n")
    config = load(str(path))
    path.write_text(dump(config))
    assert load(str(path)) == config
    return config.shared


def test_sizes(tmp_path: Path) -> None:
    """Names, with sizes as everywhere."""
    assert read(tmp_path, "") == Shared({})
    assert read(tmp_path, 'sessions = "16M"\n_a1 = 1048576').sizes == {"sessions": 16 * 2**20, "_a1": 2**20}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1:6379/0", RedisAddress("127.0.0.1", 6379, "", False, "", "", 0)),
        ("redis://cache", RedisAddress("cache", 6379, "", False, "", "", 0)),
        ("rediss://cache.example:7000/12", RedisAddress("cache.example", 7000, "", True, "", "", 12)),
        ("redis://[::1]:6380", RedisAddress("::1", 6380, "", False, "", "", 0)),
        ("redis://:p%40ss%2f@host/", RedisAddress("host", 6379, "", False, "", "p@ss/", 0)),
        ("redis://ada:secret@host:1", RedisAddress("host", 1, "", False, "ada", "secret", 0)),
        ("unix:/run/redis.sock", RedisAddress("", 0, "/run/redis.sock", False, "", "", 0)),
        ("unix:///run/redis.sock?db=3", RedisAddress("", 0, "/run/redis.sock", False, "", "", 3)),
    ],
)
def test_urls(tmp_path: Path, url: str, address: RedisAddress) -> None:
    """Where a Redis is."""
    assert read(tmp_path, f'url = "{url}"').redis == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = true", f"shared.a: found true (true or false), expected {SIZES}"),
        ('a = "big"', f'shared.a: found "big" (text), expected {SIZES}'),
        ('a = "1K"', f'shared.a: found "1K" (text), expected {SIZES}'),
        ("a = {}", f"shared.a: found a table, expected {SIZES}"),
        ('"a-b" = "1M"', f'shared: found "a-b" (text), expected {NAMES}'),
        ('end = "1M"', f'shared: found "end" (text), expected {NAMES}'),
        ("url = 5", f"shared.url: found 5 (whole number), expected {URLS}"),
        ('url = "http://x"', f'shared.url: found "http://x" (text), expected {URLS}'),
        ('url = "redis://host:99999"', f'shared.url: found "redis://host:99999" (text), expected {URLS}'),
        ('url = "redis://host:x"', f'shared.url: found "redis://host:x" (text), expected {URLS}'),
        ('url = "unix:redis.sock"', f'shared.url: found "unix:redis.sock" (text), expected {URLS}'),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, text: str, problem: str) -> None:
    """One line says where, what was found, and what is expected."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert str(raised.value) == f"{tmp_path}/config.toml: {problem}"


def test_no_table(tmp_path: Path) -> None:
    """The same of what is no table at all."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "config.toml").write_text("shared = 5\n")
    with pytest.raises(ConfigError, match=r"shared: found 5 .*, expected a table of dictionaries"):
        load(str(tmp_path / "config.toml"))


@pytest.mark.parametrize(
    ("url", "module", "extra"), [("", "lmdb", "shared"), ("unix:/nowhere", "hiredis", "redis")], ids=["lmdb", "redis"]
)
@pytest.mark.parametrize("arguments", [[], ["--check-config"]], ids=["start", "check"])
def test_what_is_not_installed(tmp_path: Path, url: str, module: str, extra: str, arguments: list[str]) -> None:
    """The start, and --check-config, say in one line what to install."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "config.toml").write_text(f'bind = "unix:s"\n[shared]\nthings = "1M"\nurl = "{url}"\n')
    program = f"import sys; sys.modules[{module!r}] = None; from greenfcgi.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "config.toml"], cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    start = "config.toml: " if arguments else ""
    assert done.stderr.splitlines()[-1] == (
        f"greenfcgi: {start}[shared]: found no module '{module}', which keeps dictionaries; "
        f"pip install 'greenfcgi[{extra}]'"
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_without_dictionaries_nothing_need_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that asks for one learns that there is none."""
    monkeypatch.setitem(sys.modules, "lmdb", None)
    monkeypatch.delitem(sys.modules, "greenfcgi.modules.shared.lmdb_store", raising=False)
    inside = Inside(tmp_path)
    answer = inside.main('return require("greenfcgi.shared").things')
    assert answer.error.endswith('shared: no dictionary "things" in [shared] of config.toml')
    inside.close()


def test_a_script_learns_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has looked before: in the error of the script."""
    monkeypatch.setitem(sys.modules, "lmdb", None)
    inside = Inside(tmp_path, settings='[shared]\nthings = "1M"\n')
    assert inside.main('return require("greenfcgi.shared").things').error.endswith(
        "lua_scripts/page.lua:2: [shared]: found no module 'lmdb', which keeps dictionaries; "
        "pip install 'greenfcgi[shared]'"
    )
    inside.close()


def test_without_dictionaries_nothing_is_imported(tmp_path: Path) -> None:
    """A server, and a script that requires nothing, do without all of it."""
    (tmp_path / "lua_scripts").mkdir()
    (tmp_path / "lua_scripts" / "hello.lua").write_text("function main(env, con) con:puts('hello') end")
    (tmp_path / "config.toml").touch()
    program = """
        import sys
        from greenfcgi.cli import main
        main(["--try", "/hello.lua"])
        print(sorted(name for name in sys.modules if "modules.shared" in name or name in ("lmdb", "hiredis")))
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in program.splitlines())], cwd=tmp_path,
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("hello[]\n")
