"""Which part of a path is the script."""

from __future__ import annotations

import time

import pytest

from greenfcgi.fastcgi.path_info import split


@pytest.mark.parametrize(
    ("path", "files", "found"),
    [
        ("/a.lua", {"/a.lua"}, ("/a.lua", "")),
        ("/a.lua/x.lua/", {"/a.lua"}, ("/a.lua", "/x.lua/")),
        ("/a.lua/x.lua/y", {"/a.lua/x.lua"}, ("/a.lua/x.lua", "/y")),
        ("/a.lua/x.lua", set(), ("/a.lua", "/x.lua")),
        ("/a/b", set(), ("/a/b", "")),
        ("/.lua/", set(), ("/.lua", "/")),
    ],
)
def test_the_first_file_of_a_path(path: str, files: set[str], found: tuple[str, str]) -> None:
    """Else the first part that has the ending."""
    assert split(path, (".lua",), files.__contains__) == found


def test_a_long_path_takes_no_time() -> None:
    """What is longer than any file's is not looked for: a client can send a path of ten thousand scripts."""
    asked: list[int] = []
    path = "/a.lua" * 10_000
    start = time.thread_time()
    for _ in range(20):
        found = split(path, (".lua",), lambda name: asked.append(len(name)) or False)  # type: ignore[func-returns-value]
    assert time.thread_time() - start < 2
    assert found == ("/a.lua", path[6:])
    assert max(asked) <= 4096
