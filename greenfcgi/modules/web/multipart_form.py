"""A body of the type multipart/form-data, part by part: what the package `multipart` finds in it, looked at once more.

It splits the body, bounds what a part has for headers, and is strict about the ends of lines and boundaries; here are
the rules for names, charsets and files, and the limits of a form. Knows no Lua, and reads in parts, so that a file
takes no memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from encodings.aliases import aliases
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from ...errors import ConfigError
from .uploads import Upload

#: Bytes of a body that are read at a time.
_PART: Final = 256 * 1024
#: Seconds after which others may have a turn.
_TURN: Final = 0.005
#: Bytes of the name of a file, as file systems have them.
_MAX_NAME: Final = 255

_PARAMETER: Final = re.compile(r'\s*;\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.ASCII)
#: RFC 2046, section 5.1.1.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)
_EXTENDED_NAME: Final = re.compile(r"""filename\*\s*=\s*([\w-]+)'[\w-]*'([^\s;"']+)""", re.ASCII | re.IGNORECASE)
#: What a text field may be in beside UTF-8. Not all that Python has: some take long, and some are no charsets.
_CHARSETS: Final = frozenset(
    {"us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251",
     "windows-1252", "koi8-r", "shift_jis", "euc-jp", "euc-kr", "gbk", "gb18030", "big5"}
)  # fmt: skip
_UTF_8: Final = frozenset({"utf-8", "utf8"})
#: Imported when it is needed, charsets, too: see `configured.import_shipped`.
LATE_IMPORTS: Final = (
    "multipart",
    *(f"encodings.{aliases.get(name, name)}" for name in (one.replace("-", "_") for one in sorted(_CHARSETS))),
)
_UNENCODED: Final = frozenset({"7bit", "8bit", "binary"})


class BadForm(Exception):
    """What the client has done wrong: one line, and the status of the reply."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Limits(NamedTuple):
    """How many fields and files there may be, and the bytes of one, and of all fields; names count."""

    max_fields: float
    max_field_size: float
    max_fields_size: float
    max_files: float
    max_file_size: float


class Field(NamedTuple):
    """A text, in UTF-8 or as the browser has sent it."""

    name: bytes
    value: bytes


class File(NamedTuple):
    """A file that is whole. `filename` has no directories, and is one that a file can have."""

    name: bytes
    filename: bytes
    content_type: bytes
    upload: Upload


def boundary_of(content_type: str) -> str:
    """What stands between the parts, by the header Content-Type. Raises `BadForm`."""
    at = content_type.find(";")
    if at < 0:
        at = len(content_type)
    found = None
    while match := _PARAMETER.match(content_type, at):
        at = match.end()
        if match[1].lower() == "boundary":
            if found is not None:
                raise BadForm("Content-Type has two boundaries")
            found = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
    if content_type[at:].strip(" \t;"):
        raise BadForm("Content-Type has a parameter that is none")
    if found is None:
        raise BadForm("Content-Type has no boundary")
    if not _BOUNDARY.fullmatch(found):
        raise BadForm("Content-Type has a boundary that is none: expected 1 to 70 characters that are allowed in it")
    return found


def read_form(
    read: Callable[[int], bytes], boundary: str, limits: Limits, new_upload: Callable[[], Upload]
) -> Iterator[Field | File | None]:
    """The fields and files of a body; None where others may have a turn.

    `read(size)` gives the next bytes of the body, b"" at its end. Where this ends early, the file under way is removed.
    Raises `BadForm`; `OSError` from `read`, and where a file cannot be written; `ConfigError` without the package.
    """
    try:
        from multipart import MultipartError, ParserLimitReached, PushMultipartParser
    except ImportError:
        raise ConfigError("forms with files need a package: pip install 'greenfcgi[forms]'") from None
    parser = PushMultipartParser(boundary, header_charset="latin-1")
    collector = _Collector(limits, new_upload)
    turn = monotonic() + _TURN
    try:
        while True:
            data = read(_PART)
            if not data:
                break
            for event in parser.parse(data):
                found = collector.take(event)
                if found is not None:
                    yield found
                # Of headers on many lines a part may take milliseconds.
                if monotonic() >= turn:
                    turn = monotonic() + _TURN
                    yield None
            if monotonic() >= turn:
                turn = monotonic() + _TURN
                yield None
        parser.close()
    except ParserLimitReached as problem:
        raise BadForm(_described(problem), 413) from None
    except MultipartError as problem:
        raise BadForm(f"broken multipart: {_described(problem)}") from None
    finally:
        collector.close()


def _described(problem: Exception) -> str:
    text = str(problem.args[0]) if problem.args else "it cannot be read"
    text = text.partition(" (")[0].replace("segment", "part")
    return text[:1].lower() + text[1:]


class _Collector:
    """What has come of the part under way; and how much there has been of all, for the limits."""

    def __init__(self, limits: Limits, new_upload: Callable[[], Upload]) -> None:
        self._limits = limits
        self._new_upload = new_upload
        self._fields = self._files = self._fields_size = 0
        self._name = self._filename = self._type = b""
        self._charset: str | None = None
        self._is_file = self._is_empty = False
        self._upload: Upload | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def take(self, event: Any) -> Field | File | None:
        """An event of the parser: the head of a part, bytes of it, or None at its end. Returns what is whole then."""
        if event is None:
            return self._end()
        if isinstance(event, bytes):
            if self._is_file:
                self._add_to_file(event)
            else:
                self._add_to_field(event)
        else:
            self._begin(event)
        return None

    def close(self) -> None:
        """Nothing more comes: what is not whole goes."""
        if self._upload is not None:
            self._upload.remove()
            self._upload = None

    def _begin(self, segment: Any) -> None:
        headers = [name for name, _ in segment.headerlist]
        if len(set(headers)) < len(headers):
            raise BadForm("broken multipart: a part has a header twice")
        encoding = segment.header("Content-Transfer-Encoding", "binary").strip().lower()
        if encoding not in _UNENCODED:
            raise BadForm("a part of the form has a Content-Transfer-Encoding, which no form has")
        self._name = segment.name.encode("latin-1")
        if not self._name:
            raise BadForm("broken multipart: a part has no name")
        filename = _filename(segment)
        self._is_file = filename is not None
        self._size = len(self._name)
        if not filename:
            # Also an input for files where none was chosen.
            self._fields += 1
            if self._fields > self._limits.max_fields:
                raise BadForm(f"the form has more than {self._limits.max_fields:.0f} fields", 413)
        if filename is None:
            self._charset = _charset(segment)
            self._add_to_field(b"")
        else:
            self._is_empty = not filename
            self._filename = safe_name(filename)
            content_type = (segment.content_type or "").encode("latin-1")
            fits = _MEDIA_TYPE.fullmatch(content_type.decode("latin-1"))
            self._type = content_type if fits else b"application/octet-stream"
            if not self._is_empty:
                self._open()

    def _open(self) -> None:
        self._files += 1
        if self._files > self._limits.max_files:
            raise BadForm(f"the form has more than {self._limits.max_files:.0f} files", 413)
        self._upload = self._new_upload()

    def _add_to_field(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limits.max_field_size:
            raise BadForm(f"a field of the form has more than {self._limits.max_field_size:.0f} bytes", 413)
        if self._fields_size + self._size > self._limits.max_fields_size:
            raise BadForm(f"the fields of the form have more than {self._limits.max_fields_size:.0f} bytes", 413)
        self._pieces.append(data)

    def _add_to_file(self, data: bytes) -> None:
        if self._upload is None:
            # A file without a name, but not without bytes.
            self._is_empty = False
            self._open()
        assert self._upload is not None
        if self._upload.size + len(data) > self._limits.max_file_size:
            raise BadForm(f"a file of the form has more than {self._limits.max_file_size:.0f} bytes", 413)
        self._upload.write(data)

    def _end(self) -> Field | File | None:
        if not self._is_file:
            self._fields_size += self._size
            value = b"".join(self._pieces)
            self._pieces = []
            return Field(self._name, _in_utf_8(value, self._charset) if self._charset else value)
        upload, self._upload = self._upload, None
        if upload is None:
            # No file was chosen.
            return None
        upload.close()
        return File(self._name, self._filename, self._type, upload)


def _charset(segment: Any) -> str | None:
    """The charset of a text field, where it is another than UTF-8."""
    charset = (segment.charset or "utf-8").lower()
    if charset in _UTF_8:
        return None
    if charset not in _CHARSETS:
        raise BadForm("a field of the form has a charset that is not known here")
    return str(charset)


def _in_utf_8(text: bytes, charset: str) -> bytes:
    try:
        return text.decode(charset).encode()
    except UnicodeError:
        raise BadForm(f"a field of the form is not in its charset, {charset}") from None


def _filename(segment: Any) -> bytes | None:
    """The name of a file as it was sent; None: it is a field."""
    header = segment.header("Content-Disposition")
    if "*" in header:
        # Not in what is quoted.
        outside = '""'.join(header.replace('\\"', "").split('"')[::2])
        extended = _EXTENDED_NAME.search(outside)
        if extended:
            charset = extended[1].lower()
            if charset not in _UTF_8 and charset not in _CHARSETS:
                raise BadForm("the name of a file has a charset that is not known here")
            try:
                return unquote_to_bytes(extended[2]).decode(charset).encode()
            except UnicodeError:
                raise BadForm(f"the name of a file is not in its charset, {charset}") from None
    return None if segment.filename is None else segment.filename.encode("latin-1")


def safe_name(name: bytes) -> bytes:
    """A name that a file can have: no directories, no control characters, not hidden, at most 255 bytes of UTF-8."""
    text = name.replace(b"\\", b"/").rpartition(b"/")[2].decode("utf-8", "replace").replace("\ufffd", "_")
    text = "".join(letter if letter.isprintable() else "_" for letter in text).strip(". ")
    stem, end = os.path.splitext(text)
    ending = end.encode()[: _MAX_NAME // 4]
    found = stem.encode()[: _MAX_NAME - len(ending)] + ending
    return found.decode("utf-8", "ignore").strip(". ").encode() or b"file"
