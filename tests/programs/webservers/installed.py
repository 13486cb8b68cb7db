"""Which web servers the machine has: without them tests are skipped, but on continuous integration they fail."""

from __future__ import annotations

import os

from ...support import programs

APACHE_MODULES = "/usr/lib/apache2/modules"
_COMMANDS = {"apache": "apache2"}


def is_wanted(server: str) -> bool:
    """It is installed, or has to be."""
    return os.environ.get("CI") == "true" or programs.find(_COMMANDS.get(server, server)) is not None


def program(name: str) -> str:
    """The path of a web server, or of another program; without it the test is skipped, or fails."""
    return programs.program(_COMMANDS.get(name, name))


def has_xsendfile() -> bool:
    """Apache can send files that a script names."""
    return os.environ.get("CI") == "true" or os.path.exists(f"{APACHE_MODULES}/mod_xsendfile.so")
