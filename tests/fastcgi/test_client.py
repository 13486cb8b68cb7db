"""The web server's side: what it makes of replies, and both sides wired together in memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenfcgi.errors import ProtocolError
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client, Reply
from greenfcgi.fastcgi.connection import READY, STDIN, Connection
from greenfcgi.fastcgi.request import Request

from ..support.reads import cut

quick = settings(max_examples=100, deadline=None, database=None)

PARAMS = {"SCRIPT_FILENAME": "/srv/a.lua", "REQUEST_METHOD": "POST"}

#: Around the size up to which a reply is one buffer, around each border of a record, and anything else.
sizes = st.sampled_from(
    [0, 1, 32_767, 32_768, 32_769, 65_534, 65_535, 65_536, 131_069, 131_070, 131_071]
) | st.integers(0, 200_000)


def ready(connection: Connection, data: bytes) -> tuple[Request, bytes]:
    """The one request in `data`, and its body."""
    events = list(connection.receive(data))
    assert events[-1][0] == READY
    return events[-1][1], b"".join(content for event, _, content in events if event == STDIN)


def received(*parts: bytes) -> Reply:
    """What a client makes of the reply to request 1 in these records."""
    client = Client()
    for part in parts:
        client.receive(part)
    return client.replies[1]


def replies(client: Client) -> dict[int, tuple[bytes, bytes, bool, tuple[int, int] | None]]:
    """All that a client knows of each reply."""
    return {
        request_id: (reply.stdout, reply.stderr, reply.stdout_ended, reply.ended)
        for request_id, reply in client.replies.items()
    }


# Both sides


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_a_request_arrives_as_it_was_asked_for(size: int) -> None:
    """Parameters, body, id and KEEP_CONN reach the responder, however large both streams are."""
    asked = {**PARAMS, "HTTP_X": "x" * (size // 2), "QUERY_STRING": "n=\udcff\u00e4"}
    body = b"\0\1\2" * (size // 3)
    sent = Client.request(asked, body, request_id=9, keep_conn=True)
    request, stdin = ready(Connection(), sent)
    assert (request.id, request.keep_conn, request.filename, stdin) == (9, True, b"/srv/a.lua", body)
    expected = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in asked.items()}
    # Where nobody has said how long the body is, the responder does.
    assert request.variables() == expected | ({b"CONTENT_LENGTH": b"%d" % len(body)} if body else {})


def test_a_request_may_repeat_a_parameter() -> None:
    """Parameters given as pairs are all sent, in their order."""
    sent = Client.request([("HTTP_COOKIE", "a=1"), ("HTTP_COOKIE", "b=2")])
    assert ready(Connection(), sent)[0].variables() == {b"HTTP_COOKIE": b"a=1; b=2"}


@quick
@given(sizes, sizes)
def test_a_reply_of_any_size_arrives_as_it_was_sent(head_size: int, body_size: int) -> None:
    """The same bytes come back, and every STDOUT record is full but the last one with content."""
    head, body = b"h" * head_size, (b"body" * (body_size // 4 + 1))[:body_size]
    connection = Connection()
    request, _ = ready(connection, Client.request(PARAMS))
    sent = b"".join(connection.reply(request, head, body))
    reply = received(sent)
    assert reply.stdout == head + body
    assert reply.stdout_ended
    assert reply.ended == (0, records.REQUEST_COMPLETE)
    lengths = [len(content) for kind, _, content in records.split(sent) if kind == records.STDOUT]
    assert lengths[-1] == 0
    assert all(length == records.MAX_CONTENT for length in lengths[:-2])
    assert all(lengths[:-1])


@quick
@given(st.sampled_from([1, 65_534, 65_535]) | st.integers(1, 65_535), sizes)
def test_a_header_block_that_fits_is_never_split(head_size: int, body_size: int) -> None:
    """The first STDOUT record has the whole header block, and as much of the body as there is room for."""
    head = b"h" * head_size
    connection = Connection()
    request, _ = ready(connection, Client.request(PARAMS))
    sent = b"".join(connection.stdout(request, head, b"b" * body_size))
    _, _, first = next(records.split(sent))
    assert first.startswith(head)
    assert len(first) == min(head_size + body_size, records.MAX_CONTENT)


@quick
@given(st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_replies_to_mixed_requests_are_kept_apart_in_any_cut(lengths: list[int]) -> None:
    """Records of several replies may follow each other, and may be cut anywhere."""
    connection, client = Connection(), Client()
    one, _ = ready(connection, Client.request(PARAMS, request_id=1))
    two, _ = ready(connection, Client.request(PARAMS, request_id=2))
    sent = [
        *connection.stdout(one, b"Status: 200 OK\r\n\r\n", b"one, "),
        *connection.stderr(two, b"a warning"),
        *connection.stdout(two, b"Status: 404 Not Found\r\n\r\n", b"two"),
        *connection.stdout(one, b"", b"more"),
        connection.finish(two),
        records.unknown_type(77),
        connection.finish(one, 3),
    ]
    for part in cut(b"".join(sent), lengths):
        client.receive(part)
    assert replies(client) == {
        1: (b"Status: 200 OK\r\n\r\none, more", b"", True, (3, 0)),
        2: (b"Status: 404 Not Found\r\n\r\ntwo", b"a warning", True, (0, 0)),
    }
    assert client.management == [(records.UNKNOWN_TYPE, bytes((77, 0, 0, 0, 0, 0, 0, 0)))]


# Replies


def test_a_reply_says_status_header_and_body() -> None:
    """Names are found in lower case, each with all its values; the body is what follows the empty line."""
    sent = b"Status: 201 Created\r\nSet-Cookie: a=1\r\nSET-COOKIE:b=2 \r\nX: a:b\r\n\r\nbody\r\n\r\nmore"
    reply = received(records.record(records.STDOUT, 1, sent))
    assert reply.status == 201
    assert reply.head == {"status": ["201 Created"], "set-cookie": ["a=1", "b=2"], "x": ["a:b"]}
    assert reply.body == b"body\r\n\r\nmore"


def test_a_reply_that_has_not_ended_says_so() -> None:
    """Content alone ends nothing: the empty STDOUT record and END_REQUEST are two ends."""
    content = records.record(records.STDOUT, 1, b"x")
    end = records.record(records.STDOUT, 1)
    assert (received(content).stdout_ended, received(content).ended) == (False, None)
    assert (received(content, end).stdout_ended, received(content, end).ended) == (True, None)
    assert received(content, end, content).stdout_ended
    ended = received(content, records.end_request(1, 5, records.OVERLOADED))
    assert (ended.stdout_ended, ended.ended) == (False, (5, records.OVERLOADED))


@pytest.mark.parametrize(
    "head", [b"", b"X: y", b"Status:", b"Status: abc", b"Status: \xb2\xb2\xb2 x", b"Status: -1", b"Status"]
)
def test_a_status_that_is_no_number_is_0(head: bytes) -> None:
    """A reply is not judged: what stands in the place of the number may be any bytes."""
    reply = received(records.record(records.STDOUT, 1, head + b"\r\n\r\n"))
    assert reply.status == 0


# What is no reply


@pytest.mark.parametrize("size", [0, 7, 9])
def test_end_request_with_another_body_than_8_bytes_is_an_error(size: int) -> None:
    """The text says how many bytes were found."""
    with pytest.raises(ProtocolError, match=f"END_REQUEST with {size} bytes, expected 8"):
        Client().receive(records.record(records.END_REQUEST, 1, b"\0" * size))


def test_another_version_is_an_error_before_its_record_is_whole() -> None:
    """The header is enough, so that no client waits for the content of what is not FastCGI."""
    client = Client()
    with pytest.raises(ProtocolError, match="version 72"):
        client.receive(records.record(records.STDOUT, 1, b"fine") + b"HTTP/1.1 400 Bad Request")
    assert client.replies[1].stdout == b"fine"


sent_by_responders = (
    st.builds(records.record, st.integers(0, 12), st.integers(0, 2), st.binary(max_size=20))
    | st.builds(records.end_request, st.integers(0, 2))
    | st.binary(max_size=20)
    | st.builds(records.HEADER.pack, st.just(1), st.integers(0, 12), st.just(1), st.integers(0, 9), st.integers(0, 9))
)


@quick
@given(st.lists(sent_by_responders, max_size=8), st.lists(st.integers(1, 30), min_size=1, max_size=3))
def test_garbage_raises_nothing_but_protocol_error_in_any_cut(pieces: list[bytes], lengths: list[int]) -> None:
    """Whatever a responder sends, and however it is cut, a client makes the same of it, errors included."""
    outcomes = []
    data = b"".join(pieces)
    for reads in ([data], cut(data, [1]), cut(data, lengths)):
        client, error = Client(), ""
        try:
            for part in reads:
                client.receive(part)
        except ProtocolError as broken:
            error = str(broken)
        assert all(isinstance(reply.status, int) for reply in client.replies.values())
        outcomes.append((replies(client), client.management, error))
    assert outcomes[0] == outcomes[1] == outcomes[2]
