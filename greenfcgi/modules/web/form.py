"""What `form.lua` calls, for one state: forms of the type multipart/form-data, and the files that came with them.

A file stays until the request ends, whatever it ends by, or until the script moves it away.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Final

from ...errors import ConfigError
from ...lua.bridge import GONE, Bridge, ModuleFunction, Outcome
from .multipart_form import BadForm, Field, File, Limits, boundary_of, read_form
from .uploads import Upload

#: The third value of a problem that is no client's: a file cannot be kept; something is to be installed.
_SYSTEM: Final = 1
_MISSING: Final = 2
_MORE: Final = b"more"


class Forms:
    """The form that is being read, and the files of those that have been read in this request, by their numbers."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._items: Iterator[Field | File | None] | None = None
        #: A file that is being written has one of those that scripts may have.
        self._has_descriptor = False
        self._last = 0
        self._uploads: dict[int, Upload] = {}
        self._moves: dict[int, Iterator[None]] = {}
        bridge.at_end.append(self.close_all)
        bridge.at_close.append(self.close_all)

    # Each of these is called from Lua.

    def begin(
        self, content_type: bytes, max_fields: float, max_field_size: float, max_fields_size: float, max_files: float,
        max_file_size: float,
    ) -> Outcome:  # fmt: skip
        """Begin to read the request's body. Returns as `next`."""
        exchange = self._bridge.exchange
        if exchange is None or self._bridge.is_ending:
            return self._failure("there is no request", _SYSTEM)
        try:
            boundary = boundary_of(content_type.decode("latin-1"))
        except BadForm as problem:
            return self._failure(str(problem), problem.status)
        length_problem = exchange.body_problem()
        if length_problem:
            return self._failure(length_problem, 400)
        limits = Limits(max_fields, max_field_size, max_fields_size, max_files, max_file_size)
        self._items = read_form(exchange.read, boundary, limits, self._new_upload)
        return self.next()

    def next(self) -> Outcome:
        """Read on: ("field", name, value); ("file", name, its own name, type, size, path, number); or "more", "end".

        A problem is (nil, what it is, a status or a code).
        """
        items = self._items
        if items is None:
            return b"end"
        if self._is_gone():
            return self._bridge.failure(GONE)
        try:
            item = next(items)
        except StopIteration:
            self._items = None
            return b"end"
        except BadForm as problem:
            return self._failed(str(problem), problem.status)
        except ConfigError as problem:
            return self._failed(str(problem), _MISSING)
        except OSError as problem:
            return self._failed(f"the form cannot be kept: {problem.strerror}", _SYSTEM)
        if item is None:
            return _MORE
        if isinstance(item, Field):
            return (b"field", *item) if self._bridge.reserve(len(item.name) + len(item.value)) else False
        name, filename, content_type, upload = item
        self._give_descriptor()
        self._last += 1
        self._uploads[self._last] = upload
        path = os.fsencode(upload.path)
        if not self._bridge.reserve(len(name) + len(filename) + len(content_type) + len(path)):
            return False
        return b"file", name, filename, content_type, upload.size, path, self._last

    def move(self, number: int, path: bytes | None = None) -> Outcome:
        """Move a file to an absolute path; without one, go on. Returns "", or "more": call it again.

        A problem is (nil, what it is, errno).
        """
        if self._is_gone():
            return self._bridge.failure(GONE)
        try:
            if path is not None:
                upload = self._uploads.get(number)
                if upload is None or number in self._moves:
                    return self._bridge.failure(b"it was moved before, or its request has ended", errno.ENOENT)
                refused = self._bridge.check(path, True, True)
                if refused is not None:
                    return self._bridge.failure(os.strerror(refused).encode(), refused)
                self._moves[number] = upload.move(path)
            next(self._moves[number])
        except StopIteration:
            del self._moves[number]
            del self._uploads[number]
            return b""
        except OSError as problem:
            self._moves.pop(number, None)
            return self._bridge.failure((problem.strerror or "cannot be moved").encode(), problem.errno or 5)
        return _MORE

    # Not called from Lua.

    def close_all(self) -> None:
        """The request has ended: what the script has not moved away goes."""
        items, self._items = self._items, None
        if items is not None:
            items.close()  # type: ignore[attr-defined]  # a generator
            self._give_descriptor()
        for move in self._moves.values():
            move.close()  # type: ignore[attr-defined]  # a generator
        self._moves.clear()
        for upload in self._uploads.values():
            upload.remove()
        self._uploads.clear()

    def _new_upload(self) -> Upload:
        if not self._bridge.take_descriptors(1):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._has_descriptor = True
        return Upload()

    def _give_descriptor(self) -> None:
        if self._has_descriptor:
            self._has_descriptor = False
            self._bridge.give_descriptors(1)

    def _is_gone(self) -> bool:
        exchange = self._bridge.exchange
        return exchange is not None and exchange.aborted

    def _failed(self, text: str, code: int) -> Outcome:
        """The form cannot be read to its end."""
        self._items = None
        self._give_descriptor()
        return self._failure(text, code)

    def _failure(self, text: str, code: int) -> Outcome:
        return self._bridge.failure(text.encode("utf-8", "backslashreplace"), code)


def functions(bridge: Bridge) -> Mapping[str, ModuleFunction]:
    """What `form.lua` calls, for one state."""
    forms = Forms(bridge)
    return {"begin": forms.begin, "next": forms.next, "move": forms.move, "is_utf8": is_utf8}


def is_utf8(text: bytes) -> int:
    """1 where a text is UTF-8, else 0."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return 0
    return 1
