"""Which part of a path is the script, and which is its PATH_INFO: for paths that no web server has split."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def split(path: str, extensions: tuple[str, ...], is_file: Callable[[str], bool]) -> tuple[str, str]:
    """The script and its PATH_INFO: "/a.lua/more" gives "/a.lua" and "/more".

    The script is the first part of the path that is a file with one of the extensions; when there is none, the first
    that has an extension; else all of it.
    """
    ends = list(_ends(path, extensions))
    end = next((end for end in ends if is_file(path[:end])), ends[0] if ends else len(path))
    return path[:end], path[end:]


def _ends(path: str, extensions: tuple[str, ...]) -> Iterator[int]:
    at = -1
    while (at := path.find("/", at + 1)) != -1:
        if path[:at].endswith(extensions):
            yield at
    if path.endswith(extensions):
        yield len(path)
