"""What all tests share: a way to a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .support.inside import Inside
from .support.running import Server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server with `serve({"name.lua": "source"}, "settings")`; it is ended after the test."""
    with ExitStack() as stack:
        yield lambda scripts=None, settings="": stack.enter_context(Server(tmp_path, scripts, settings))


@pytest.fixture
def lua(flavour: Inside) -> Inside:
    """The `flavour` of the test module, with an empty log."""
    flavour.forget_log()
    return flavour
