"""CHANGELOG.md is for people: versions, the newest first; in each what was added, changed, fixed, in short points."""

from __future__ import annotations

import re
from pathlib import Path

from greenfcgi import __version__

TEXT = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
GROUPS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def versions() -> dict[str, str]:
    """What stands below the heading of each version."""
    parts = re.split(r"^## (.+)\n", TEXT, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_each_version_has_a_heading() -> None:
    """With its date; the newest is the one that the package has."""
    for heading in versions():
        assert re.fullmatch(r"\d+\.\d+\.\d+ \((unreleased|\d{4}-\d{2}-\d{2})\)", heading), heading
    numbers = [tuple(map(int, heading.partition(" ")[0].split("."))) for heading in versions()]
    assert numbers == sorted(numbers, reverse=True)
    assert next(iter(versions())).startswith(f"{__version__} ")


def test_versions_are_grouped() -> None:
    """By the usual names, in their order, and nothing stands outside them but an introduction."""
    for text in versions().values():
        introduction, *groups = re.split(r"^### ", text, flags=re.MULTILINE)
        names = [group.partition("\n")[0] for group in groups]
        assert names == [name for name in GROUPS if name in names]
        assert "\n- " not in introduction


def test_points_are_short() -> None:
    """Two or three lines, whole sentences; a version fits on a page or two."""
    for text in versions().values():
        points = re.findall(r"^- (.*\n(?:  .*\n)*)", text, re.MULTILINE)
        assert points
        for point in points:
            assert len(point) <= 300, point
            assert point.endswith(".\n"), point
        assert len(text.splitlines()) <= 90
