"""Which part of a path is the script, and which is its PATH_INFO: for paths that no web server has split."""

from __future__ import annotations

from collections.abc import Callable, Iterator

#: Characters of a path that can be a file's; the kernel takes no more bytes (PATH_MAX).
_MAX_PATH = 4096


def split(path: str, extensions: tuple[str, ...], is_file: Callable[[str], bool]) -> tuple[str, str]:
    """The script and its PATH_INFO: "/a.lua/more" gives "/a.lua" and "/more".

    The script is the first part of the path that is a file with one of the extensions; when there is none, the first
    that has an extension; else all of it.
    """
    ends = list(_ends(path, extensions))
    short = (end for end in ends if end <= _MAX_PATH)
    end = next((end for end in short if is_file(path[:end])), ends[0] if ends else len(path))
    return path[:end], path[end:]


def _ends(path: str, extensions: tuple[str, ...]) -> Iterator[int]:
    at = -1
    while (at := path.find("/", at + 1)) != -1:
        # Not of a slice: of a path of 64 KB these would be 300 MB.
        if path.endswith(extensions, 0, at):
            yield at
    if path.endswith(extensions):
        yield len(path)
