"""FastCGI 1.0 on the wire: records and name-value pairs as pure functions.

Bytes in, bytes out. Nothing here knows a connection, a request's state, or a socket; the rules of who may send
what, and when, are in `connection`. Section numbers are those of the FastCGI Specification 1.0 (Open Market, 1996).

A record (section 3.3) is a header of eight bytes, 0 to 65,535 bytes of content and 0 to 255 bytes of padding::

    version  type  request id  content length  padding length  reserved
    1 byte   1     2           2               1               1
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from ..errors import ProtocolError

VERSION: Final = 1
HEADER_SIZE: Final = 8
#: Bytes of content that one record can carry (section 3.3).
MAX_CONTENT: Final = 65_535

# Record types (section 8)
BEGIN_REQUEST: Final = 1
ABORT_REQUEST: Final = 2
END_REQUEST: Final = 3
PARAMS: Final = 4
STDIN: Final = 5
STDOUT: Final = 6
STDERR: Final = 7
DATA: Final = 8
GET_VALUES: Final = 9
GET_VALUES_RESULT: Final = 10
UNKNOWN_TYPE: Final = 11

#: The request id of management records (section 3.3).
MANAGEMENT_ID: Final = 0

# Roles, and the one flag of BEGIN_REQUEST (section 5.1)
RESPONDER: Final = 1
AUTHORIZER: Final = 2
FILTER: Final = 3
KEEP_CONN: Final = 1

# Protocol status of END_REQUEST (section 5.5)
REQUEST_COMPLETE: Final = 0
CANT_MPX_CONN: Final = 1
OVERLOADED: Final = 2
UNKNOWN_ROLE: Final = 3

#: What is sent: a view of long content saves a copy.
Buffer = bytes | memoryview

#: version, type, request id, content length, padding length
HEADER: Final = struct.Struct("!BBHHBx")
#: role, flags
BEGIN_BODY: Final = struct.Struct("!HB5x")
#: application status, protocol status
END_BODY: Final = struct.Struct("!IB3x")

_LONG: Final = struct.Struct("!I")
_END_HEADER_AND_BODY: Final = struct.Struct("!BBHHBxIB3x")


def record(kind: int, request_id: int, content: bytes = b"") -> bytes:
    """One whole record, without padding, which section 3.3 recommends but no web server needs.

    `content` has at most `MAX_CONTENT` bytes; `stream` cuts what is longer.
    """
    return HEADER.pack(VERSION, kind, request_id, len(content), 0) + content


def stream(kind: int, request_id: int, data: Buffer) -> list[Buffer]:
    """`data` as records of a stream (section 3.3), in buffers to be sent one behind the other.

    Headers and content are separate buffers, so that long content is not copied. Empty data gives no record:
    an empty one would end the stream.
    """
    if len(data) <= MAX_CONTENT:
        return [HEADER.pack(VERSION, kind, request_id, len(data), 0), data] if data else []
    buffers: list[Buffer] = []
    view = memoryview(data)
    for start in range(0, len(data), MAX_CONTENT):
        part = view[start : start + MAX_CONTENT]
        buffers.append(HEADER.pack(VERSION, kind, request_id, len(part), 0))
        buffers.append(part)
    return buffers


def begin_request(request_id: int, role: int = RESPONDER, keep_conn: bool = False) -> bytes:
    """A BEGIN_REQUEST record (section 5.1)."""
    return record(BEGIN_REQUEST, request_id, BEGIN_BODY.pack(role, KEEP_CONN if keep_conn else 0))


def end_request(request_id: int, app_status: int = 0, protocol_status: int = REQUEST_COMPLETE) -> bytes:
    """An END_REQUEST record (section 5.5)."""
    return _END_HEADER_AND_BODY.pack(VERSION, END_REQUEST, request_id, 8, 0, app_status, protocol_status)


def unknown_type(kind: int) -> bytes:
    """The answer to a management record of a type that is not known (section 4.2)."""
    return record(UNKNOWN_TYPE, MANAGEMENT_ID, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The (type, request id, content) of each whole record in `data`.

    Raises `ProtocolError` when the version is not 1 or the last record is cut off.
    """
    at = 0
    while at < len(data):
        if len(data) - at < HEADER_SIZE:
            raise ProtocolError(f"a record header of {HEADER_SIZE} bytes is cut off after {len(data) - at}")
        version, kind, request_id, length, padding = HEADER.unpack_from(data, at)
        if version != VERSION:
            raise ProtocolError(f"a record of FastCGI version {version}, expected {VERSION}")
        start = at + HEADER_SIZE
        at = start + length + padding
        if at > len(data):
            raise ProtocolError(f"a record of {length + padding} bytes is cut off after {len(data) - start}")
        yield kind, request_id, data[start : start + length]


# Name-value pairs (section 3.4): two lengths, of one byte up to 127 or of four with the highest bit set, then
# the name and the value. A length that is written longer than needed is legal.


def encode_pairs(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Name-value pairs as the content of PARAMS, GET_VALUES and GET_VALUES_RESULT."""
    parts: list[bytes] = []
    for name, value in pairs:
        parts += (_encode_length(len(name)), _encode_length(len(value)), name, value)
    return b"".join(parts)


def _encode_length(length: int) -> bytes:
    return bytes((length,)) if length < 128 else _LONG.pack(length | 0x8000_0000)


def decode_pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """The name-value pairs in `data`, in their order, duplicates included.

    Raises `ProtocolError` when a length or a pair reaches beyond the end.
    """
    pairs: list[tuple[bytes, bytes]] = []
    at, end = 0, len(data)
    try:
        while at < end:
            name_length, value_length, start = _lengths(data, at)
            middle = start + name_length
            at = middle + value_length
            pairs.append((data[start:middle], data[middle:at]))
    except (IndexError, struct.error):
        raise _cut_off(end) from None
    if at > end:
        raise _too_long(at, end)
    return pairs


def value_of(data: bytes, name: bytes) -> bytes | None:
    """The value of the last pair of this name; None where there is none. Nothing else is decoded.

    Raises `ProtocolError` as `decode_pairs`.
    """
    if name not in data:
        return None
    found = None
    at, end, length = 0, len(data), len(name)
    try:
        while at < end:
            name_length, value_length = data[at], data[at + 1]
            start = at + 2
            if name_length > 127 or value_length > 127:
                name_length, value_length, start = _lengths(data, at)
            middle = start + name_length
            at = middle + value_length
            if name_length == length and data[start:middle] == name:
                found = data[middle:at]
    except (IndexError, struct.error):
        raise _cut_off(end) from None
    if at > end:
        raise _too_long(at, end)
    return found


def _lengths(data: bytes, at: int) -> tuple[int, int, int]:
    """The two lengths of the pair at `at`, of one byte or of four each, and where its name begins."""
    name_length = data[at]
    at += 1
    if name_length > 127:
        name_length = _LONG.unpack_from(data, at - 1)[0] & 0x7FFF_FFFF
        at += 3
    value_length = data[at]
    at += 1
    if value_length > 127:
        value_length = _LONG.unpack_from(data, at - 1)[0] & 0x7FFF_FFFF
        at += 3
    return name_length, value_length, at


def _cut_off(end: int) -> ProtocolError:
    return ProtocolError(f"the lengths of a name-value pair are cut off at byte {end}")


def _too_long(at: int, end: int) -> ProtocolError:
    return ProtocolError(f"name-value pairs of {at} bytes, but only {end} were sent")


#: Headers that make no list (RFC 9110, section 5.3).
_SINGLE: Final = frozenset(
    b"HTTP_" + name
    for name in (
        b"AGE", b"AUTHORIZATION", b"CONTENT_LENGTH", b"CONTENT_TYPE", b"DATE", b"FROM", b"HOST", b"IF_MODIFIED_SINCE",
        b"IF_RANGE", b"IF_UNMODIFIED_SINCE", b"MAX_FORWARDS", b"PROXY_AUTHORIZATION", b"RANGE", b"REFERER",
        b"USER_AGENT",
    )
)  # fmt: skip


def separator(name: bytes) -> bytes | None:
    """What joins the values of a variable that comes several times; b"": the first one counts, None: the last one.

    nginx and HAProxy send a pair for each of several headers that have one name. These are lists (RFC 9110, section
    5.2), cookies with a separator of their own (RFC 9113, section 8.2.3). Of what is no header the last pair counts, so
    that a configuration can replace what a file that it includes has set.
    """
    if not name.startswith(b"HTTP_"):
        return None
    if name in _SINGLE:
        return b""
    return b"; " if name == b"HTTP_COOKIE" else b", "


def params(data: bytes) -> dict[bytes, bytes]:
    """The CGI variables in a whole PARAMS stream, each once, as `separator` says.

    Raises `ProtocolError` as `decode_pairs` does.
    """
    pairs = decode_pairs(data)
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for name, value in pairs:
        joint = separator(name) if name in found else None
        if joint is None:
            found[name] = value
        elif joint:
            found[name] += joint + value
    return found


#: The variables that Python needs of every request: scripts read the others inside Lua.
ROUTING: Final = (b"SCRIPT_FILENAME", b"CONTENT_LENGTH")

#: Takes a whole PARAMS stream, and returns the values of the variables in `ROUTING`, then what the access log wants:
#: the values of further ones, or a text as `Template` says. Values are None for variables that are missing. Raises
#: `ProtocolError` as `decode_pairs` does.
Routing = Callable[[bytes], tuple[bytes | None, ...]]


class Template(NamedTuple):
    """A text with the values of variables in it, a value between each two of `texts`.

    Something else is filled in later, with `%`: so each % in a value is doubled. A value that is missing or empty is
    "-". A `Routing` returns the text; or None and behind it the values of the variables, in the order of `names`: where
    there are no `texts`, or a value has bytes that are not `PLAIN`, or more than `MAX_VALUE`, or that of the variable
    `needed` is missing or empty.
    """

    texts: tuple[bytes, ...]
    variables: tuple[bytes, ...]
    needed: bytes = b""

    @property
    def names(self) -> tuple[bytes, ...]:
        """The names of its variables beyond `ROUTING`."""
        return tuple([name for name in dict.fromkeys(self.variables) if name not in ROUTING])


#: Bytes of a value in the text of a `Template`.
MAX_VALUE: Final = 500
#: Bytes that stand for themselves between quotation marks: printable ASCII but quotation marks and backslashes.
PLAIN: Final = bytes([byte for byte in range(0x20, 0x7F) if byte not in b'"\\'])


def router(wanted: Sequence[bytes] | Template = ()) -> Routing:
    """A `Routing` for the variables in `ROUTING`, and for others without duplicates, or a text.

    `LuaEngine.router` makes one that does the same in Lua, quicker.
    """
    template = wanted if isinstance(wanted, Template) else None
    names = (*ROUTING, *(wanted if template is None else template.names))

    def find(data: bytes) -> tuple[bytes | None, ...]:
        variables = params(data)
        found = tuple([variables.get(name) for name in names])
        if template is None:
            return found
        text = _text(template, variables)
        routing = found[: len(ROUTING)]
        return (*routing, text) if text is not None else (*routing, None, *found[len(ROUTING) :])

    return find


def _text(template: Template, variables: dict[bytes, bytes]) -> bytes | None:
    if not template.texts or (template.needed and not variables.get(template.needed)):
        return None
    text = template.texts[0]
    for name, after in zip(template.variables, template.texts[1:], strict=True):
        value = variables.get(name, b"")
        if len(value) > MAX_VALUE or value.translate(None, PLAIN):
            return None
        text += (value.replace(b"%", b"%%") or b"-") + after
    return text


#: Finds the variables in `ROUTING` only.
routing: Final = router()


def get_values(names: Iterable[bytes]) -> bytes:
    """A GET_VALUES record that asks for `names` (section 4.1)."""
    return record(GET_VALUES, MANAGEMENT_ID, encode_pairs((name, b"") for name in names))


def get_values_result(asked: bytes, known: Mapping[bytes, bytes]) -> bytes:
    """The answer to a GET_VALUES record with content `asked`: the known ones among its names, each once."""
    names = dict.fromkeys(name for name, _ in decode_pairs(asked))
    answer = encode_pairs((name, known[name]) for name in names if name in known)
    return record(GET_VALUES_RESULT, MANAGEMENT_ID, answer)
