"""Name and version of this greenfcgi, and whether its core is compiled."""

from __future__ import annotations

import os
from importlib.machinery import ExtensionFileLoader, PathFinder

from . import __version__

# Looked for and not imported, so that the supervisor stays without.
_core = PathFinder.find_spec(f"{__package__}.fastcgi.records", [os.path.join(os.path.dirname(__file__), "fastcgi")])
#: The core is what pyproject.toml has compiled from the same source, where that was asked for.
COMPILED = _core is not None and isinstance(_core.loader, ExtensionFileLoader)
#: "greenfcgi 0.1.0", or "greenfcgi 0.1.0 compiled".
NAME = f"greenfcgi {__version__}{' compiled' if COMPILED else ''}"
