"""Name and version of this greenfcgi, and whether its core is compiled."""

from __future__ import annotations

import os
from importlib.machinery import ExtensionFileLoader, PathFinder

from . import __version__

_FOLDER = os.path.dirname(__file__)


def _what() -> str:
    """What follows the version: " compiled"; why it is not, where the build of a wheel has tried; or nothing."""
    if COMPILED:
        return " compiled"
    try:
        with open(os.path.join(_FOLDER, "not-compiled.txt"), encoding="utf-8") as file:
            return f" (not compiled: {file.read()})"
    except OSError:
        return ""


# Looked for and not imported, so that the supervisor stays without.
_core = PathFinder.find_spec(f"{__package__}.fastcgi.records", [os.path.join(_FOLDER, "fastcgi")])
#: The core is what .ci/compiled.py has compiled from the same source.
COMPILED = _core is not None and isinstance(_core.loader, ExtensionFileLoader)
#: "greenfcgi 0.1.0 compiled", or "greenfcgi 0.1.0 (not compiled: no C compiler (cc))", or, run from its source,
#: "greenfcgi 0.1.0".
NAME = f"greenfcgi {__version__}{_what()}"
