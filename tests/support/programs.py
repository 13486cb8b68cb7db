"""Programs that tests need: web servers, linters, databases."""

from __future__ import annotations

import os
import shutil

import pytest


def find(name: str) -> str | None:
    """The path of a program, also where only root has its folder in PATH; None where it is not installed."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


def program(name: str) -> str:
    """The path of a program; without it the test is skipped, but on continuous integration it fails."""
    path = find(name)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
