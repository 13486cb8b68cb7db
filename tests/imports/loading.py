"""What an imported configuration is once the server has loaded it."""

from __future__ import annotations

from pathlib import Path

from greenfcgi.config.load import Config, load


def loaded(folder: Path, printed: str) -> Config:
    """The configuration that the printed file is, in a folder with the default root."""
    (folder / "lua_scripts").mkdir(exist_ok=True)
    (folder / "config.toml").write_text(printed)
    return load(str(folder / "config.toml"))


def value(config: Config, name: str) -> object:
    """A setting by its name, such as "scripts.handler"; addresses and networks as text."""
    found: object = config
    for part in name.split("."):
        found = getattr(found, part)
    return [str(one) for one in found] if name in ("bind", "allowed_clients") else found  # type: ignore[attr-defined]
