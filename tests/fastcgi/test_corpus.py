"""Streams as web servers send them, and as none should, in files that are named for what is in them.

A file in `corpus/valid` is FastCGI. One in `corpus/invalid` is not, or asks for too much: it ends in an error, or its
request is TOO_LARGE. Lines at the head of a file say what the responder's side makes of the stream::

    # expect: BEGUN 1, STDIN 1 5, READY 1     the events, each with its id, STDIN with its length; or: nothing
    # output: END_REQUEST 1 UNKNOWN_ROLE      the records that are owed without a script's help; none without this line
    # error: version 2                        a part of what the `ProtocolError` says; no error without this line
    # variable: 1 HTTP_COOKIE=a=1; b=2        a CGI variable of the request with that id; as many lines as wanted

The rest is bytes: `0f0a` in hex, `"text"` as it stands, `"x" * 500` one of either many times, and `#` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenfcgi.errors import ProtocolError
from greenfcgi.fastcgi import connection, records
from greenfcgi.fastcgi.connection import STDIN, Connection

from ..support.reads import cut

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("**/*.hex"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in FILES]

EVENTS = {getattr(connection, name): name for name in ("BEGUN", "STDIN", "READY", "ABORTED", "TOO_LARGE", "NO_ROOM")}
STATUSES = ("REQUEST_COMPLETE", "CANT_MPX_CONN", "OVERLOADED", "UNKNOWN_ROLE")

_HEADING = re.compile(r"# (expect|output|error|variable): (.+)")
_TOKEN = re.compile(r'"(?P<text>[^"]*)"|\*\s*(?P<times>\d+)|(?P<hex>(?:[0-9a-f]{2})+)|(?P<passed>#.*|\s+)')


class Heard(NamedTuple):
    """What a connection made of a stream."""

    events: str
    output: str
    error: str
    #: (request id, name, value)
    variables: frozenset[tuple[int, bytes, bytes]]


class Stream(NamedTuple):
    """A file of the corpus: its bytes, and its headings by key."""

    data: bytes
    headings: dict[str, list[str]]


def read(path: Path) -> Stream:
    """A file of the corpus. Raises ValueError where a line is neither bytes nor a comment."""
    parts: list[bytes] = []
    headings: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if heading := _HEADING.fullmatch(line):
            headings.setdefault(heading[1], []).append(heading[2])
            continue
        at = 0
        while at < len(line):
            token = _TOKEN.match(line, at)
            if token is None:
                raise ValueError(f"{path}: line {number}: found {line[at:]!r}; expected bytes or a comment")
            at = token.end()
            if token["text"] is not None:
                parts.append(token["text"].encode())
            elif token["hex"]:
                parts.append(bytes.fromhex(token["hex"]))
            elif token["times"]:
                parts[-1] *= int(token["times"])
    return Stream(b"".join(parts), headings)


def hear(pieces: Iterable[bytes]) -> Heard:
    """Feed a connection."""
    connection = Connection()
    events: list[str] = []
    output: list[records.Buffer] = []
    variables: dict[int, dict[bytes, bytes]] = {}
    error = ""
    length = 0
    try:
        for piece in pieces:
            for event, request, data in connection.receive(piece):
                # The parts that a record of a body comes in are put together.
                length += len(data)
                if connection._body_left and event == STDIN:
                    continue
                events.append(f"{EVENTS[event]} {request.id}" + (f" {length}" if length else ""))
                length = 0
                variables[request.id] = request.variables()
            output += connection.take_output()
    except ProtocolError as broken:
        error = str(broken)
    output += connection.take_output()
    return Heard(
        ", ".join(events) or "nothing",
        ", ".join(shown(*one) for one in records.split(b"".join(output))),
        error,
        frozenset((of, name, value) for of, found in variables.items() for name, value in found.items()),
    )


def shown(kind: int, request_id: int, content: bytes) -> str:
    """A record that the protocol owes, in words."""
    if kind == records.END_REQUEST:
        return f"END_REQUEST {request_id} {STATUSES[content[4]]}"
    if kind == records.STDOUT and b"Status: " in content:
        return f"STDOUT {request_id} {content.partition(b'Status: ')[2][:3].decode()}"
    if kind == records.STDOUT:
        return f"STDOUT {request_id} {len(content)}"
    if (kind, request_id) == (records.UNKNOWN_TYPE, 0):
        return f"UNKNOWN_TYPE {content[0]}"
    assert (kind, request_id) == (records.GET_VALUES_RESULT, 0)
    return " ".join(["GET_VALUES_RESULT", *(b"=".join(pair).decode() for pair in records.decode_pairs(content))])


@pytest.mark.parametrize("path", FILES, ids=NAMES)
@pytest.mark.parametrize("sizes", [[1 << 20], [1], [11, 1, 4099]], ids=["one read", "byte by byte", "odd cut"])
def test_a_stream_of_the_corpus_means_what_its_file_says(path: Path, sizes: list[int]) -> None:
    """Events, output, error and variables are those at the head of the file, however the stream is cut."""
    data, headings = read(path)
    heard = hear(cut(data, sizes))
    assert heard.events == headings["expect"][0]
    assert heard.output == headings.get("output", [""])[0]
    error = headings.get("error", [""])[0]
    assert error in heard.error
    assert bool(error) == bool(heard.error)
    for variable in headings.get("variable", []):
        request_id, _, pair = variable.partition(" ")
        name, _, value = pair.encode().partition(b"=")
        assert (int(request_id), name, value) in heard.variables


def test_every_file_of_the_corpus_says_what_is_expected() -> None:
    """There is nothing else in the corpus; each file has one expectation, and stands where it belongs."""
    assert sorted(path for path in CORPUS.rglob("*") if path.is_file()) == FILES
    assert len(FILES) >= 40
    for path in FILES:
        headings = read(path).headings
        assert path.read_text().startswith("# "), path
        assert len(headings.get("expect", [])) == 1, path
        assert len(headings.get("output", [])) <= 1, path
        assert len(headings.get("error", [])) <= 1, path
        valid = "error" not in headings and "TOO_LARGE" not in headings["expect"][0]
        assert path.parent.name == ("valid" if valid else "invalid"), path


SMALL = [data for data, _ in map(read, FILES) if len(data) < 1000]


@settings(max_examples=150, deadline=None, database=None)
@given(st.sampled_from(SMALL), st.integers(0), st.integers(0, 255), st.lists(st.integers(1, 40), min_size=1))
def test_a_wrong_byte_in_a_stream_of_the_corpus_means_the_same_in_any_cut(
    data: bytes, at: int, wrong: int, sizes: list[int]
) -> None:
    """Whatever one wrong byte does to a stream, it does so in every cut, and raises nothing but `ProtocolError`."""
    at %= len(data)
    damaged = data[:at] + bytes((wrong,)) + data[at + 1 :]
    assert hear([damaged]) == hear(cut(damaged, sizes))
