"""The build backend: hatchling's, except that an editable install fetches no tools to compile with.

Hatch does not tell the hook in compiled.py what its dependencies are wanted for.
"""

from __future__ import annotations

import os
from typing import Any

from hatchling import build
from hatchling.build import *  # noqa: F403


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What pip fetches before an editable install. Each call of a backend has a process of its own."""
    os.environ["HATCH_BUILD_NO_HOOKS"] = "1"
    return build.get_requires_for_build_editable(config_settings)
