"""The texts of files that are kept in memory: each once, however many versions of scripts have it, and bounded."""

from __future__ import annotations

from weakref import WeakValueDictionary


class Text:
    """The text of a file, kept for as long as somebody has this."""

    __slots__ = ("__weakref__", "_texts", "data", "digest")

    def __init__(self, texts: Texts, data: bytes, digest: bytes) -> None:
        self._texts = texts
        self.data = data
        #: Of its bytes: no other text has the same.
        self.digest = digest
        texts.size += len(data)

    def __del__(self) -> None:
        self._texts.size -= len(self.data)


class Texts:
    """The texts of one process, at most `max_size` bytes together."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        #: Bytes that are kept now.
        self.size = 0
        self._kept: WeakValueDictionary[bytes, Text] = WeakValueDictionary()

    def keep(self, data: bytes, digest: bytes) -> Text | None:
        """Keep a text, or share the one that is there; None when there is no room for it."""
        text = self._kept.get(digest)
        if text is None and self.size + len(data) <= self._max_size:
            text = self._kept[digest] = Text(self, data, digest)
        return text
