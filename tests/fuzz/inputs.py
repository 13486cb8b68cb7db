"""From the bytes of a fuzzer to a stream, its cut into reads, and when its requests are answered.

Any bytes are an input. Random bytes are hardly ever FastCGI, so that most inputs are read as a program that builds
records, whole ones and some that are wrong in one thing; the others hold a stream as it stands.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from greenfcgi.fastcgi import records

from ..support.reads import cut

# The first byte of an input, modulo `MODES`
PAIRS: Final = 0
RAW: Final = 1
#: So is every higher one.
BUILT: Final = 2
MODES: Final = 6

_SIZES: Final = 3
_ANSWERS: Final = 6
#: Bytes in front of a stream: the mode, how it is cut, sizes of reads, and what is done at its events.
HEAD: Final = 2 + _SIZES + _ANSWERS

#: Parts of a stream that is built: longer ones take long, and reach nothing that these do not.
MAX_PARTS: Final = 20

_NAMES = (
    b"SCRIPT_FILENAME", b"CONTENT_LENGTH", b"HTTP_COOKIE", b"HTTP_HOST", b"HTTP_X", b"FCGI_MPXS_CONNS",
    b"FCGI_MAX_CONNS", b"X", b"",
)  # fmt: skip
_PADDINGS = (0, 0, 0, 0, 1, 8, 254, 255)
_ABORT = records.record(records.ABORT_REQUEST, 1)


class Choices:
    """The bytes of an input, taken one after the other; once there are no more, each is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """Something has not been taken yet."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self) -> int:
        """The next two bytes."""
        return self.byte() << 8 | self.byte()

    def below(self, end: int) -> int:
        """A number from 0 to `end` - 1, which is at most 255."""
        return self.byte() % end

    def take(self, size: int) -> bytes:
        """So many bytes, or what is left of them."""
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))


class Sent(NamedTuple):
    """A stream, and how it comes."""

    stream: bytes
    #: The stream in the reads that the input has chosen.
    reads: list[bytes]
    #: What the responder does at the first event, the second and so on, over and over.
    answers: bytes


def read(data: bytes) -> Sent:
    """What an input in mode `RAW` or `BUILT` says."""
    choices = Choices(data)
    mode, how = choices.below(MODES), choices.byte()
    sizes = choices.take(_SIZES)
    answers = choices.take(_ANSWERS) or b"\0"
    parts = [choices.rest()] if mode == RAW else Builder(choices).parts()
    stream = b"".join(parts)
    return Sent(stream, _reads(parts, stream, how, sizes), answers)


def _reads(parts: list[bytes], stream: bytes, how: int, sizes: bytes) -> list[bytes]:
    """A stream in pieces: byte by byte, at the borders of what was built, or in any sizes."""
    if how % 4 == 0 and len(stream) < 64:
        return list(cut(stream, [1]))
    if how % 4 == 1:
        return [part for part in parts if part]
    # The last size keeps a long stream from hundreds of reads, which take long and say no more than dozens.
    return list(cut(stream, [*(1 + size for size in sizes), 1 + len(stream) // 16]))


def pairs(choices: Choices) -> bytes:
    """Up to three name-value pairs with lengths of either form, now and then with the last one cut off."""
    parts: list[bytes] = []
    count = choices.byte()
    for _ in range(count % 4):
        how = choices.byte()
        name = _NAMES[how % len(_NAMES)]
        value = choices.take(how >> 5) * (60 if how & 8 else 1)
        for part in (name, value):
            long = how & 16 or len(part) > 127
            parts.append((len(part) | 0x8000_0000).to_bytes(4, "big") if long else bytes((len(part),)))
        parts += (name, value)
    encoded = b"".join(parts)
    return encoded[: -1 - count % 4] if count > 240 else encoded


class Builder:
    """Runs a program: each of its instructions makes one part of a stream."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        #: Ids in the order of their BEGIN_REQUEST.
        self._begun: list[int] = []

    def parts(self) -> list[bytes]:
        """The stream."""
        found: list[bytes] = []
        while self._choices.left and len(found) < MAX_PARTS:
            found.append(self._part(self._choices.below(32)))
        return found

    def _part(self, instruction: int) -> bytes:
        """A record, a whole request, or what is wrong. What carries requests on has the most numbers."""
        if instruction < 5:
            return self._begin()
        if instruction < 8:
            return self._whole()
        if instruction < 11:
            return self._params()
        if instruction < 15:
            return self._record(records.PARAMS)
        if instruction < 18:
            return self._record(records.STDIN, self._choices.take(self._choices.below(12)))
        if instruction < 22:
            return self._record(records.STDIN)
        if instruction < 24:
            return self._record(records.ABORT_REQUEST)
        if instruction < 26:
            return self._record(records.GET_VALUES, pairs(self._choices), records.MANAGEMENT_ID)
        rare = (self._large, self._any_record, self._unknown, self._odd_begin, self._header, self._garbage)
        return rare[instruction - 26]()

    def _record(self, kind: int, content: bytes = b"", request_id: int | None = None) -> bytes:
        """A record, of one of the last requests unless an id is given, and with padding now and then."""
        choice = self._choices.byte()
        if request_id is None:
            request_id = self._begun[-1 - choice % min(3, len(self._begun))] if self._begun else 1
        padding = _PADDINGS[choice >> 5]
        # Padding that is taken for records takes requests back.
        return records.HEADER.pack(1, kind, request_id, len(content), padding) + content + (_ABORT * 32)[:padding]

    def _new_id(self) -> int:
        """Mostly one that was not used before, else one that may be active."""
        choice = self._choices.below(8)
        found = (1, 2, 65_535)[choice] if choice < 3 else len(self._begun) + 1
        self._begun.append(found)
        return found

    def _begin(self) -> bytes:
        """BEGIN_REQUEST for a responder, mostly with KEEP_CONN."""
        flags = records.KEEP_CONN if self._choices.below(8) else self._choices.byte()
        content = records.BEGIN_BODY.pack(records.RESPONDER, flags)
        return self._record(records.BEGIN_REQUEST, content, self._new_id())

    def _whole(self) -> bytes:
        """A request without a body, as most of them come, in one part; a few are wrong in one thing."""
        request_id, wrong = self._new_id(), self._choices.below(16)
        params_id, ends_id = request_id + (wrong == 1), request_id ^ (wrong == 2)
        ends = [records.record(records.PARAMS, ends_id), records.record(records.STDIN, ends_id)]
        if wrong == 3:
            ends.reverse()
        parts = [
            records.begin_request(request_id, keep_conn=self._choices.below(8) > 0),
            self._record(records.PARAMS, pairs(self._choices), params_id & 0xFFFF),
            *ends,
        ]
        return b"".join(parts)

    def _params(self) -> bytes:
        """Pairs in one record of PARAMS, or in two that are cut anywhere."""
        content, at = pairs(self._choices), self._choices.byte()
        if at >= len(content):
            return self._record(records.PARAMS, content)
        return self._record(records.PARAMS, content[:at]) + self._record(records.PARAMS, content[at:])

    def _large(self) -> bytes:
        """PARAMS or STDIN of any length that a record can have."""
        kind = (records.PARAMS, records.STDIN)[self._choices.below(2)]
        # The longest ones are rare, since they take long.
        length = self._choices.byte() * 8 if self._choices.below(16) else self._choices.number()
        return self._record(kind, bytes((self._choices.byte(),)) * length)

    def _any_record(self) -> bytes:
        """A record of any type, half of them with id 0, whose content is whatever follows."""
        kind = self._choices.byte()
        content = self._choices.take(self._choices.below(20))
        return self._record(kind, content, (None, records.MANAGEMENT_ID)[self._choices.below(2)])

    def _unknown(self) -> bytes:
        """A management record of any type, mostly of one that is not known."""
        return self._record(self._choices.byte(), b"", records.MANAGEMENT_ID)

    def _odd_begin(self) -> bytes:
        """BEGIN_REQUEST for any role, with a body of any length near eight, and now and then with id 0."""
        content = records.BEGIN_BODY.pack(self._choices.below(5), self._choices.byte()) + b"\0" * 4
        size = (8, 8, 8, 8, 8, 0, 7, 9)[self._choices.below(8)]
        request_id = self._new_id() if self._choices.below(8) else records.MANAGEMENT_ID
        return self._record(records.BEGIN_REQUEST, content[:size], request_id)

    def _header(self) -> bytes:
        """A header of any version with whatever follows behind it."""
        byte = self._choices.byte
        return records.HEADER.pack(byte() % 3, byte(), byte() % 4, self._choices.number(), byte())

    def _garbage(self) -> bytes:
        """Some bytes as they stand."""
        return self._choices.take(self._choices.below(20))
