"""Bodies that come compressed: gzip and deflate, a part at a time, so that a little data cannot become much memory."""

from __future__ import annotations

import zlib
from typing import Any, Final

#: zlib's numbers for what a stream looks like: with gzip's header, with zlib's, with none.
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class Undecodable(Exception):
    """The body is not what its Content-Encoding says."""


class Decoder:
    """Takes compressed data by `add`, and gives it decompressed by `next`."""

    def __init__(self, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._stream: Any = zlib.decompressobj(_GZIP if is_gzip else _ZLIB)
        self._input = b""
        self._has_begun = False
        #: A part was as long as was asked for: there may be more without any input.
        self._is_full = False

    def add(self, data: bytes) -> None:
        """More of the body, once `next` has returned b""."""
        self._input = data

    def next(self, size: int) -> bytes:
        """The next bytes, at most so many; b"" when more input is needed. Raises `Undecodable`."""
        while self._input or self._is_full:
            if self._stream.eof:
                if not self._is_gzip:
                    # What follows means nothing.
                    self._input, self._is_full = b"", False
                    break
                # Several can stand one after the other (RFC 1952, section 2.2).
                self._stream = zlib.decompressobj(_GZIP)
                self._has_begun = False
            part = self._decompress(size)
            self._is_full = len(part) == size and not self._stream.eof
            self._input = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if part:
                return part
        return b""

    def _decompress(self, size: int) -> bytes:
        try:
            part: bytes = self._stream.decompress(self._input, size)
        except zlib.error:
            if self._is_gzip or self._has_begun:
                raise Undecodable from None
            # Many servers send deflate without zlib's header.
            self._stream = zlib.decompressobj(_RAW)
            try:
                part = self._stream.decompress(self._input, size)
            except zlib.error:
                raise Undecodable from None
        self._has_begun = True
        return part

    def is_complete(self) -> bool:
        """The body may end here."""
        return self._stream.eof or not self._has_begun


def decoder(encoding: str) -> Decoder | None:
    """What decodes a Content-Encoding; None for what is none, or unknown."""
    name = encoding.strip().lower()
    if name in ("gzip", "x-gzip"):
        return Decoder(is_gzip=True)
    return Decoder(is_gzip=False) if name == "deflate" else None
