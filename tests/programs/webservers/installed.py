"""Which programs the machine has: without them tests are skipped, but on continuous integration they fail."""

from __future__ import annotations

import os
import shutil

import pytest

APACHE_MODULES = "/usr/lib/apache2/modules"
_COMMANDS = {"apache": "apache2"}


def command_path(name: str) -> str | None:
    """The path of a web server's program, or of another one."""
    return shutil.which(_COMMANDS.get(name, name), path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def program(name: str) -> str:
    """The same; without it the test is skipped, but on continuous integration it fails."""
    path = command_path(name)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def has_xsendfile() -> bool:
    """Apache can send files that a script names."""
    return os.path.exists(f"{APACHE_MODULES}/mod_xsendfile.so") or os.environ.get("CI") == "true"
