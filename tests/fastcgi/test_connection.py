"""The responder's side of a connection: what bytes from a web server mean, and what it is owed for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenfcgi.errors import ProtocolError
from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client
from greenfcgi.fastcgi.connection import ABORTED, BEGUN, MAX_PARAMS, MAX_REQUESTS, READY, STDIN, TOO_LARGE, Connection
from greenfcgi.fastcgi.records import Buffer
from greenfcgi.fastcgi.request import Request
from greenfcgi.quota import Quota

from ..support.reads import cut

Pair = tuple[bytes, bytes]

quick = settings(max_examples=100, deadline=None, database=None)

SCRIPT = (b"SCRIPT_FILENAME", b"/srv/a.lua")


class Heard(NamedTuple):
    """All that a connection made of the bytes it was fed."""

    #: (event, request id, data); the parameters stand in the place of the empty data of BEGUN.
    events: list[tuple[int, int, bytes]]
    #: What it owes, as records.
    output: bytes
    #: What the `ProtocolError` said, or nothing.
    error: str
    #: The ids that are active in the end.
    active: list[int]
    should_close: bool
    at_boundary: bool


def feed(pieces: Iterable[bytes], connection: Connection | None = None, *, answer: Collection[int] = ()) -> Heard:
    """Let a connection receive one piece after the other, and end a request at any of the events in `answer`.

    The parts that a record of a body comes in are put together.
    """
    connection = connection or Connection()
    events: list[tuple[int, int, bytes]] = []
    output: list[Buffer] = []
    error = ""
    part = b""
    try:
        for piece in pieces:
            for event, request, content in connection.receive(piece):
                data = request.params if event == BEGUN else bytes(content)
                if event == STDIN:
                    part += data
                    if connection._body_left:
                        continue
                    data, part = part, b""
                events.append((event, request.id, data))
                if event in answer:
                    connection.finish(request)
            output += connection.take_output()
    except ProtocolError as broken:
        error = str(broken)
    output += connection.take_output()
    active = sorted(connection.requests)
    return Heard(events, b"".join(output), error, active, connection.should_close, connection.at_boundary)


def padded(kind: int, request_id: int, content: bytes, padding: int) -> bytes:
    """A record whose padding looks like records that take the request back."""
    header = records.HEADER.pack(1, kind, request_id, len(content), padding)
    return header + content + (records.record(records.ABORT_REQUEST, request_id) * 32)[:padding]


def begin(request_id: int = 1, role: int = records.RESPONDER) -> bytes:
    """BEGIN_REQUEST with KEEP_CONN."""
    return records.begin_request(request_id, role, keep_conn=True)


def params(*pairs: Pair, request_id: int = 1) -> bytes:
    """A PARAMS stream in one record, and the empty record that ends it."""
    content = records.encode_pairs(pairs)
    return b"".join(records.stream(records.PARAMS, request_id, content)) + records.record(records.PARAMS, request_id)


def stdin(content: bytes = b"", request_id: int = 1) -> bytes:
    """A part of STDIN; an empty one ends it."""
    return records.record(records.STDIN, request_id, content)


def abort(request_id: int = 1) -> bytes:
    """ABORT_REQUEST."""
    return records.record(records.ABORT_REQUEST, request_id)


def begun(connection: Connection, *pairs: Pair, request_id: int = 1) -> Request:
    """A request whose parameters have come, and whose body has not ended."""
    [(event, request, _)] = connection.receive(begin(request_id) + params(*pairs, request_id=request_id))
    assert event == BEGUN
    return request


def kinds(heard: Heard) -> list[tuple[int, int]]:
    """The events and their ids, without data."""
    return [(event, request_id) for event, request_id, _ in heard.events]


ENDED = (0, records.REQUEST_COMPLETE)


def ends(output: bytes) -> dict[int, tuple[int, int] | None]:
    """What END_REQUEST said for each id."""
    client = Client()
    client.receive(output)
    return {request_id: reply.ended for request_id, reply in client.replies.items()}


# Streams as web servers send them, and as they do not


class Sent(NamedTuple):
    """Requests whose records are mixed with each other, and what they carry by id."""

    records: list[bytes]
    params: dict[int, bytes]
    stdin: dict[int, bytes]


#: When a request is ended: never, once it is whole, or early.
CAN_BE_ANSWERED = (READY, TOO_LARGE)
answers = st.sampled_from([(), CAN_BE_ANSWERED, (BEGUN,), (STDIN, READY)])
part_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=3)
paddings = st.sampled_from([0, 0, 1, 7, 255])
pair_lists = st.lists(
    st.tuples(
        st.sampled_from([b"SCRIPT_FILENAME", b"HTTP_COOKIE", b""]),
        st.binary(max_size=9) | st.just(b"v" * 130),
    ),
    max_size=3,
)
#: Records that mean nothing to any request with an id from 1 to 4.
idle_records = st.builds(
    records.record, st.integers(3, 255), st.sampled_from([0, 5, 65_535]), st.sampled_from([b"", b"\1\0A"])
) | st.builds(records.record, st.integers(12, 255), st.integers(1, 4), st.binary(max_size=9))


def mixed(draw: st.DrawFn, lists: list[list[bytes]]) -> list[bytes]:
    """The records of several lists in any order that keeps the order within each list."""
    order = draw(st.permutations([at for at, one in enumerate(lists) for _ in one]))
    left = [iter(one) for one in lists]
    return [next(left[at]) for at in order]


@st.composite
def multiplexed(draw: st.DrawFn) -> Sent:
    """Up to four whole requests, their PARAMS and STDIN in parts, among records that mean nothing."""
    sent = Sent([], {}, {})
    requests = []
    for request_id in range(1, draw(st.integers(1, 4)) + 1):
        sent.params[request_id] = records.encode_pairs(draw(pair_lists))
        sent.stdin[request_id] = draw(st.binary(max_size=60))
        streams = [
            [
                padded(kind, request_id, part, draw(paddings))
                for part in (*cut(data, draw(part_sizes)), b"")
            ]
            for kind, data in (
                (records.PARAMS, sent.params[request_id]),
                (records.STDIN, sent.stdin[request_id]),
            )
        ]  # fmt: skip
        requests.append([begin(request_id), *mixed(draw, streams)])
    requests.append(draw(st.lists(idle_records, max_size=4)))
    sent.records.extend(mixed(draw, requests))
    return sent


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """A multiplexed stream with records left out, doubled or put in, and bytes that are not FastCGI."""
    sent = draw(multiplexed()).records
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(sent)))
        intruder = draw(st.sampled_from([abort(1), abort(2), begin(3), begin(1, records.FILTER), stdin(), *sent]))
        sent[at : at + draw(st.integers(0, 1))] = [intruder]
    data = b"".join(sent)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=9)) + data[at + draw(st.integers(0, 9)) :]
    return data


@settings(quick, max_examples=70)
@given(hostile(), part_sizes, answers)
def test_any_cut_into_reads_gives_the_same_events_output_and_error(
    data: bytes, sizes: list[int], answer: Collection[int]
) -> None:
    """Whatever a web server sends, and in whatever pieces it comes, the connection makes the same of it."""
    whole = feed([data], answer=answer)
    assert feed(cut(data, [1]), answer=answer) == whole
    assert feed(cut(data, sizes), answer=answer) == whole


@st.composite
def whole_requests(draw: st.DrawFn) -> bytes:
    """A request without a body as it comes in one read, or one that differs from it in one thing."""
    wrong = draw(st.sampled_from(["nothing"] * 4 + ["role", "id of params", "id of the ends", "id", "ends", "a byte"]))
    ids = st.integers(0, 2)
    request_id = draw(ids) if wrong == "id" else 1
    role = records.FILTER if wrong == "role" else records.RESPONDER
    flags = draw(st.sampled_from([0, records.KEEP_CONN, 0xFE, 0xFF]))
    params_id = draw(ids) if wrong == "id of params" else request_id
    ends_id = draw(ids) if wrong == "id of the ends" else request_id
    ends = [records.record(records.PARAMS, ends_id), stdin(b"", ends_id)]
    if wrong == "ends":
        ends = draw(st.sampled_from([[*ends, begin(2)], [*ends, abort()], ends[::-1], ends[:1], []]))
    data = (
        records.record(records.BEGIN_REQUEST, request_id, records.BEGIN_BODY.pack(role, flags))
        + padded(records.PARAMS, params_id, records.encode_pairs(draw(pair_lists)), draw(paddings))
        + b"".join(ends)
    )
    if wrong == "a byte":
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(min_size=1, max_size=1)) + data[at + 1 :]
    return data


@quick
@given(st.lists(whole_requests() | hostile(), max_size=1), st.lists(whole_requests(), max_size=2), answers)
def test_a_request_that_is_a_read_of_its_own_gives_the_same_as_in_any_cut(
    before: list[bytes], reads: list[bytes], answer: Collection[int]
) -> None:
    """The short way that a whole request takes ends where the long one does, also when one byte of it is wrong."""
    heard = feed([*before, *reads], answer=answer)
    assert heard == feed(cut(b"".join([*before, *reads]), [1]), answer=answer)


@quick
@given(multiplexed(), part_sizes)
def test_requests_that_are_mixed_with_each_other_come_out_whole(sent: Sent, sizes: list[int]) -> None:
    """Each id gets its own parameters and body, BEGUN and READY once each, however the records are mixed."""
    heard = feed(cut(b"".join(sent.records), sizes))
    assert heard.error == ""
    assert sorted(heard.active) == sorted(sent.params)
    for request_id in sent.params:
        events = [(event, data) for event, of, data in heard.events if of == request_id]
        assert [data for event, data in events if event == BEGUN] == [sent.params[request_id]]
        assert b"".join(data for event, data in events if event == STDIN) == sent.stdin[request_id]
        assert [event for event, _ in events].count(READY) == 1
        assert events[-1][0] == READY
    assert ends(heard.output) == {}


header_like = st.builds(
    records.HEADER.pack,
    st.sampled_from([1, 1, 1, 1, 0, 2]),
    st.integers(0, 12),
    st.integers(0, 2),
    st.integers(0, 20),
    st.integers(0, 3),
)


@quick
@given(st.lists(header_like | st.binary(max_size=20) | st.just(begin() + params(SCRIPT)), max_size=12))
def test_garbage_raises_nothing_but_protocol_error(pieces: list[bytes]) -> None:
    """No bytes make a connection raise anything else, nor send anything that is not FastCGI itself."""
    Client().receive(feed(pieces, answer=CAN_BE_ANSWERED).output)


# Records


@pytest.mark.parametrize("version", [0, 2, 71, 255])
def test_another_version_is_an_error_behind_the_events_before_it(version: int) -> None:
    """A record that is not version 1 raises, and what was whole in the same read has been yielded by then."""
    heard = feed([begin() + params(SCRIPT) + bytes((version,)) + stdin(b"abc")[1:]])
    assert kinds(heard) == [(BEGUN, 1)]
    assert heard.error == f"a record of FastCGI version {version}, expected 1"


@pytest.mark.parametrize("sizes", [[200_000], [65_535], [8, 65_535, 200], [4096], [65_543]])
def test_content_and_padding_together_may_pass_65535_bytes(sizes: list[int]) -> None:
    """The sum of both lengths is not cut to 16 bits, so that padding is never taken for records."""
    content = b"x" * 65_535
    heard = feed(cut(begin() + params(SCRIPT) + padded(records.STDIN, 1, content, 255) + stdin(), sizes))
    assert heard.error == ""
    assert heard.events[1:] == [(STDIN, 1, content), (READY, 1, b"")]


@pytest.mark.parametrize("padding", [0, 7, 255])
@pytest.mark.parametrize("sizes", [[4104, 1], [5000], [20_000, 7], [64_008, 1], [64_100, 1]])
def test_a_long_record_of_a_body_is_passed_on_as_it_comes(sizes: list[int], padding: int) -> None:
    """What there is of it need not wait for the rest; its padding, and what follows, are no part of it."""
    content = bytes(range(256)) * 250
    record = padded(records.STDIN, 1, content, padding)
    connection = Connection()
    request = begun(connection, SCRIPT)
    found, came = b"", 0
    for piece in cut(record, sizes):
        came += len(piece)
        for event, of, part in connection.receive(piece):
            assert (event, of) == (STDIN, request)
            found += part
        assert found == content[: came - records.HEADER_SIZE]
        assert request.received == len(found)
        assert connection.mid_record != connection.at_boundary == (came == len(record))
    assert kinds(feed([stdin(b"end") + stdin()], connection)) == [(STDIN, 1), (READY, 1)]


@pytest.mark.parametrize("beginning", [1, 7, 8, 9, 4000])
def test_a_long_record_of_a_body_that_begins_with_a_short_read(beginning: int) -> None:
    """It is passed on with the next one, and is no incomplete record any more."""
    data = stdin(b"x" * 60_000)
    quota = Quota(1 << 20)
    connection = Connection(quota=quota)
    begun(connection, SCRIPT)
    taken = quota.taken
    assert list(connection.receive(data[:beginning])) == []
    assert b"".join(part for _, _, part in connection.receive(data[beginning:10_000])) == b"x" * (10_000 - 8)
    assert quota.taken == taken
    broken = b"\2" + data[1:]
    heard = feed([broken[:beginning], broken[beginning:]])
    assert (heard.events, heard.error) == ([], "a record of FastCGI version 2, expected 1")


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_left_of_a_record_of_a_body_is_never_a_request(at_once: bool) -> None:
    """Neither its content nor its padding, where that is just what a request of its own looks like."""
    other = begin(2) + params((b"A", b"b" * 150), request_id=2) + stdin(request_id=2)
    content = b"x" * 5000
    header = records.HEADER.pack(1, records.STDIN, 1, len(content + other), len(other))
    connection = Connection()
    begun(connection, SCRIPT)
    assert [len(part) for _, _, part in connection.receive(header + content)] == [5000]
    reads = [other + other] if at_once else [other, other]
    assert [bytes(part) for one in reads for _, _, part in connection.receive(one)] == [other]
    assert connection.at_boundary
    assert list(connection.requests) == [1]


def test_in_the_padding_of_a_record_of_a_body() -> None:
    """It is in the midst of a record, where a connection neither ends nor goes to another process."""
    connection = Connection()
    begun(connection, SCRIPT)
    data = padded(records.STDIN, 1, b"x" * 5000, 200)
    assert kinds(feed([data[:-100]], connection)) == [(STDIN, 1)]
    assert connection.mid_record
    assert not connection.at_boundary
    assert feed([data[-100:]], connection).events == []
    assert not connection.mid_record
    assert connection.at_boundary


def test_a_body_keeps_little_more_in_memory_than_is_counted() -> None:
    """A part that is a view keeps all that was read with it: so it is one only where most of that is its own."""
    connection = Connection()
    begun(connection, SCRIPT)
    [(_, _, part)] = connection.receive(stdin(b"x" * 60_000))
    assert isinstance(part, memoryview)
    [(_, _, part)] = connection.receive(stdin(b"x" * 10_000) + stdin(b"x" * 60_000, request_id=9))
    assert isinstance(part, bytes)


def test_the_end_of_a_body_with_padding_that_is_cut() -> None:
    """A long read behind it is not taken for a part of the body."""
    end = padded(records.STDIN, 1, b"", 255)
    connection = Connection()
    begun(connection, SCRIPT)
    assert feed([end[:100]], connection).events == []
    more = begin(2) + params(SCRIPT, (b"X", b"x" * 8000), request_id=2)
    assert kinds(feed([end[100:] + more], connection)) == [(READY, 1), (BEGUN, 2)]


def test_a_request_that_is_answered_in_the_midst_of_a_record_of_its_body() -> None:
    """The rest of the record means nothing; the id is free for the next one."""
    connection = Connection()
    request = begun(connection, SCRIPT)
    content = b"x" * 60_000
    data = padded(records.STDIN, 1, content, 255)
    [(event, _, part)] = connection.receive(data[:10_008])
    assert (event, part) == (STDIN, content[:10_000])
    assert connection.mid_record
    connection.finish(request)
    heard = feed(cut(data[10_008:] + stdin() + begin() + params(SCRIPT) + stdin(b"new") + stdin(), [5000]), connection)
    assert heard.events[1:] == [(STDIN, 1, b"new"), (READY, 1, b"")]
    assert (heard.error, heard.at_boundary) == ("", True)


def test_records_may_come_one_byte_at_a_time() -> None:
    """A request that comes byte by byte is READY with its last byte, and not before."""
    data = begin() + params(SCRIPT) + stdin(b"body") + stdin()
    connection = Connection()
    assert kinds(feed(cut(data[:-1], [1]), connection)) == [(BEGUN, 1), (STDIN, 1)]
    assert not connection.at_boundary
    assert kinds(feed([data[-1:]], connection)) == [(READY, 1)]
    assert connection.at_boundary


def test_a_request_right_behind_another_in_one_read_is_seen() -> None:
    """Two requests in one read are both READY; with the first answered, even under the same id."""
    one = begin() + params(SCRIPT) + stdin()
    assert kinds(feed([one * 2], answer=CAN_BE_ANSWERED)) == [(BEGUN, 1), (READY, 1)] * 2
    other = begin(2) + params(SCRIPT, request_id=2) + stdin(b"", 2)
    assert kinds(feed([one + other])) == [(BEGUN, 1), (READY, 1), (BEGUN, 2), (READY, 2)]


# Parameters


def test_a_pair_may_straddle_two_params_records() -> None:
    """Pairs cut at any byte into two PARAMS records say the same: inside lengths, names and values."""
    content = records.encode_pairs([SCRIPT, (b"QUERY_STRING", b"q" * 200), (b"CONTENT_LENGTH", b"5")])
    for at in range(1, len(content)):
        connection = Connection()
        parts = records.record(records.PARAMS, 1, content[:at]) + records.record(records.PARAMS, 1, content[at:])
        [(event, request, _)] = connection.receive(begin() + parts + records.record(records.PARAMS, 1))
        assert (event, request.filename, request.content_length) == (BEGUN, b"/srv/a.lua", 5)
        assert request.variables()[b"QUERY_STRING"] == b"q" * 200


def test_params_in_records_of_16_kib_are_one_stream() -> None:
    """Many large PARAMS records, as Apache sends them, are put together before they are decoded."""
    pairs = [(b"HTTP_X_%d" % number, b"v" * 7000) for number in range(9)]
    content = records.encode_pairs([*pairs, SCRIPT])
    sent = b"".join(records.record(records.PARAMS, 1, part) for part in cut(content, [16_384]))
    connection = Connection()
    [(_, request, _)] = connection.receive(begin() + sent + records.record(records.PARAMS, 1))
    assert request.variables() == dict([*pairs, SCRIPT])


def test_params_are_not_decoded_before_they_have_ended() -> None:
    """No event comes, and no error, while the empty record is still to come."""
    connection = Connection()
    assert list(connection.receive(begin() + records.record(records.PARAMS, 1, b"\x0f\x0aSCRIPT"))) == []
    assert connection.requests[1].filename is None
    assert connection.requests[1].variables() == {}


@pytest.mark.parametrize("tail", [b"\x05", b"\x80\x00", b"\x01\x02n", b"\x80\x00\x00\x01\xff\xff\xff\xffn"])
def test_params_with_a_truncated_tail_are_an_error(tail: bytes) -> None:
    """A request whose last pair is cut off never begins; its connection cannot be trusted any more."""
    content = records.encode_pairs([SCRIPT]) + tail
    heard = feed([begin() + records.record(records.PARAMS, 1, content) + records.record(records.PARAMS, 1)])
    assert heard.events == []
    assert "name-value pair" in heard.error


def test_params_that_come_after_their_end_change_nothing() -> None:
    """The end of PARAMS is final: neither more pairs nor a second end is heard."""
    heard = feed([begin() + params(SCRIPT) + params((b"SCRIPT_FILENAME", b"/evil.lua")) + stdin()])
    assert heard.events == [(BEGUN, 1, records.encode_pairs([SCRIPT])), (READY, 1, b"")]


def test_bytes_in_a_query_string_do_not_choose_the_script() -> None:
    """The script is found by walking the pairs, not by searching for its name."""
    trap = b"\x0f\x10SCRIPT_FILENAME/etc/secret.conf"
    connection = Connection()
    assert begun(connection, (b"QUERY_STRING", trap), SCRIPT, (b"REQUEST_URI", trap)).filename == b"/srv/a.lua"
    assert begun(connection, (b"QUERY_STRING", trap), request_id=2).filename is None


def test_two_cookie_pairs_are_joined_and_of_others_the_last_counts() -> None:
    """A script sees all cookies in one variable, as from one header of the client."""
    request = begun(Connection(), (b"HTTP_COOKIE", b"a=1"), (b"X", b"1"), (b"HTTP_COOKIE", b"b=2"), (b"X", b"2"))
    assert request.variables() == {b"HTTP_COOKIE": b"a=1; b=2", b"X": b"2"}


def test_params_up_to_the_limit_are_taken() -> None:
    """The limit counts the whole stream, and the limit itself is within."""
    longest = (b"n", b"v" * (MAX_PARAMS - 6))
    assert len(records.encode_pairs([longest])) == MAX_PARAMS
    assert begun(Connection(), longest).variables() == dict([longest])


def test_params_beyond_the_limit_are_said_once_and_can_be_answered() -> None:
    """One byte more is TOO_LARGE, then nothing more of that request is heard; it can be answered."""
    connection = Connection()
    sent = begin() + params((b"n", b"v" * (MAX_PARAMS - 5))) + stdin(b"body") + stdin()
    [(event, request, _)] = connection.receive(sent + records.record(records.PARAMS, 1, b"v" * 9))
    assert event == TOO_LARGE
    assert (request.params, request.variables()) == (b"", {})
    client = Client()
    client.receive(b"".join(connection.reply(request, b"Status: 431 x\r\n\r\n", b"")))
    assert (client.replies[1].status, client.replies[1].ended) == (431, ENDED)
    assert kinds(feed([begin() + params(SCRIPT) + stdin()], connection)) == [(BEGUN, 1), (READY, 1)]


# The body


def test_the_end_of_stdin_is_final() -> None:
    """Neither more of a body nor a second end is heard behind its end."""
    heard = feed([begin() + params(SCRIPT) + stdin(b"a") + stdin() + stdin(b"late") + stdin()])
    assert heard.events[1:] == [(STDIN, 1, b"a"), (READY, 1, b"")]


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        (None, None),
        (b"", None),
        (b"-1", None),
        (b"+3", None),
        (b"3 ", None),
        (b"0x3", None),
        (b"\xb2", None),
        (b"9" * 5000, None),
        (b"9" * 20, None),
        (b"0", 0),
        (b"3", 3),
        (b"9" * 19, 10**19 - 1),
    ],
)
def test_the_end_of_stdin_is_believed_whatever_content_length_says(said: bytes | None, understood: int | None) -> None:
    """Too long, too short, absent or no number: the body is what came before its end."""
    connection = Connection()
    request = begun(connection, SCRIPT, *([] if said is None else [(b"CONTENT_LENGTH", said)]))
    assert request.content_length == understood
    heard = feed([stdin(b"five!"), stdin()], connection)
    assert heard.events == [(STDIN, 1, b"five!"), (READY, 1, b"")]
    assert heard.error == ""


def test_a_body_of_the_length_that_was_said_is_not_ready_before_its_end() -> None:
    """CONTENT_LENGTH does not end a body; only the empty STDIN record does."""
    connection = Connection()
    request = begun(connection, SCRIPT, (b"CONTENT_LENGTH", b"3"))
    assert kinds(feed([stdin(b"abc")], connection)) == [(STDIN, 1)]
    assert not request.stdin_ended


def test_a_body_may_come_before_the_parameters_have_ended() -> None:
    """The two streams are independent, and READY waits for both."""
    heard = feed([begin() + stdin(b"early") + stdin() + params(SCRIPT)])
    assert kinds(heard) == [(STDIN, 1), (BEGUN, 1), (READY, 1)]


def test_the_rest_of_a_body_is_swallowed_after_an_early_reply() -> None:
    """A request may be answered before STDIN has ended; then its id is free, and the rest means nothing."""
    connection = Connection()
    request = begun(connection, SCRIPT)
    client = Client()
    client.receive(b"".join(connection.reply(request, b"Status: 413 x\r\n\r\n", b"no")))
    assert (client.replies[1].status, client.replies[1].body, client.replies[1].ended) == (413, b"no", ENDED)
    heard = feed([stdin(b"rest") + stdin() + begin() + params(SCRIPT) + stdin(b"new") + stdin()], connection)
    assert heard.events[1:] == [(STDIN, 1, b"new"), (READY, 1, b"")]
    assert (heard.error, heard.output) == ("", b"")


@pytest.mark.parametrize(
    "sent",
    [params(SCRIPT) + stdin(), stdin() + params(SCRIPT), stdin(b"x") + stdin() + params(SCRIPT)],
    ids=["params first", "end of stdin first", "body first"],
)
def test_a_request_that_is_answered_when_it_begins_is_never_ready(sent: bytes) -> None:
    """A request refused for its parameters is over, even when its body had ended before them."""
    heard = feed([begin() + sent], answer=[BEGUN])
    assert kinds(heard)[-1] == (BEGUN, 1)
    assert heard.active == []


# Management records


def test_get_values_is_answered_at_any_time_with_known_names_each_once() -> None:
    """The question may come before, within and behind a request; unknown names get no answer."""
    asked = records.get_values([b"FCGI_MPXS_CONNS", b"WHAT", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS", b"FCGI_MAX_CONNS"])
    heard = feed([asked + begin() + asked + params(SCRIPT) + stdin(b"a") + asked + stdin() + asked])
    assert kinds(heard) == [(BEGUN, 1), (STDIN, 1), (READY, 1)]
    answers = list(records.split(heard.output))
    assert len(answers) == 4
    for kind, request_id, content in answers:
        assert (kind, request_id) == (records.GET_VALUES_RESULT, records.MANAGEMENT_ID)
        names = [name for name, _ in records.decode_pairs(content)]
        assert names == [b"FCGI_MPXS_CONNS", b"FCGI_MAX_REQS", b"FCGI_MAX_CONNS"]
        assert dict(records.decode_pairs(content))[b"FCGI_MPXS_CONNS"] == b"1"


def test_get_values_that_ask_for_nothing_known_get_an_empty_answer() -> None:
    """HAProxy waits for an answer, so there is one even when it says nothing."""
    heard = feed([records.get_values([]) + records.get_values([b"WHAT"])])
    assert list(records.split(heard.output)) == [(records.GET_VALUES_RESULT, 0, b"")] * 2


def test_a_management_record_of_unknown_type_is_told_so() -> None:
    """UNKNOWN_TYPE names the type, and the connection goes on."""
    unknown = [0, 12, 255]
    data = b"".join(records.record(kind, 0, b"whatever") for kind in unknown)
    heard = feed([data + begin() + params(SCRIPT)])
    assert heard.output == b"".join(map(records.unknown_type, unknown))
    assert kinds(heard) == [(BEGUN, 1)]


def test_nothing_is_sent_with_id_0_unasked() -> None:
    """Neither requests of every fate nor known types with id 0 make the responder speak with id 0."""
    stray = b"".join(records.record(kind, 0, b"\0" * 8) for kind in range(2, 12) if kind != records.GET_VALUES)
    unknown = b"".join(records.record(kind, 2, b"\0" * 8) for kind in range(12, 256))
    heard = feed([stray, begin(1) + abort(1), begin(2, records.FILTER), begin(2) + unknown + params(request_id=2)])
    assert {request_id for _, request_id, _ in records.split(heard.output)} == {1, 2}
    assert heard.active == [2]


# Roles and ids


def refused(output: bytes, request_id: int) -> tuple[int, tuple[int, int] | None]:
    """The status of the reply to a request, and what END_REQUEST says."""
    client = Client()
    client.receive(output)
    reply = client.replies[request_id]
    assert reply.stdout_ended
    return reply.status, reply.ended


@pytest.mark.parametrize("role", [records.AUTHORIZER, records.FILTER, 0, 4, 257, 65_535])
def test_another_role_is_refused_and_its_records_swallowed(role: int) -> None:
    """A 403 and END_REQUEST with UNKNOWN_ROLE come at once; streams of that id mean nothing until it begins anew.

    lighttpd takes an authorizer that answers with a bare END_REQUEST to have let the request through.
    """
    data = begin(3, role) + params(SCRIPT, request_id=3) + stdin(b"body", 3) + stdin(b"", 3)
    data += records.record(records.DATA, 3, b"file") + abort(3)
    heard = feed([data])
    assert (heard.events, heard.error, heard.active) == ([], "", [])
    assert refused(heard.output, 3) == (403, (0, records.UNKNOWN_ROLE))
    assert kinds(feed([data + begin(3) + params(SCRIPT, request_id=3)])) == [(BEGUN, 3)]


def test_records_of_an_inactive_id_are_ignored() -> None:
    """No stream, abort or unknown type for an id that has not begun, or has ended, is heard or answered."""
    stray = params(SCRIPT) + stdin(b"x") + stdin() + abort() + records.record(99, 1) + records.record(9, 1, b"x")
    heard = feed([stray + begin() + params(SCRIPT) + stdin() + stray + stdin(b"y", 2)], answer=CAN_BE_ANSWERED)
    assert kinds(heard) == [(BEGUN, 1), (READY, 1)]
    assert (heard.output, heard.error, heard.active) == (b"", "", [])


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_begin_with_another_body_than_8_bytes_is_an_error(size: int) -> None:
    """The text says how many bytes were found."""
    heard = feed([records.record(records.BEGIN_REQUEST, 1, (b"\0\1" + b"\0" * 14)[:size])])
    assert heard.error == f"BEGIN_REQUEST with {size} bytes, expected 8"
    assert heard.active == []


def test_begin_with_id_0_is_an_error() -> None:
    """Id 0 belongs to management records and is never a request."""
    for sent in (begin(0), begin(0) + params(SCRIPT, request_id=0) + stdin(b"", 0)):
        heard = feed([sent])
        assert heard.error == "BEGIN_REQUEST with id 0, which is kept for management records"
        assert (heard.events, heard.active) == ([], [])


def test_begin_for_an_active_id_is_an_error() -> None:
    """A second BEGIN_REQUEST raises as long as the first request has not ended, ready or not."""
    assert "id 1, which is active" in feed([begin() + begin()]).error
    whole = begin() + params(SCRIPT) + stdin()
    assert "id 1, which is active" in feed([whole + begin()]).error
    assert "id 1, which is active" in feed([whole, whole]).error


def test_ids_may_be_any_and_a_slow_one_holds_up_no_other() -> None:
    """Requests with scattered ids become READY in the order in which they are whole."""
    sent = [begin(request_id) for request_id in (65_535, 1, 32_767, 256)]
    sent += [params(SCRIPT, request_id=request_id) + stdin(b"", request_id) for request_id in (256, 1, 32_767)]
    heard = feed(sent)
    assert [request_id for event, request_id, _ in heard.events if event == READY] == [256, 1, 32_767]
    assert heard.active == [1, 256, 32_767, 65_535]


def test_requests_over_the_cap_are_told_overloaded() -> None:
    """As many requests as the cap are taken; one more is answered at once with 503, and its records are swallowed."""
    connection = Connection()
    first, last = 1, MAX_REQUESTS
    feed([begin(request_id) for request_id in range(first, last + 1)], connection)
    over = last + 1
    heard = feed([begin(over) + params(SCRIPT, request_id=over) + stdin(b"", over)], connection)
    assert (heard.events, heard.error, len(heard.active)) == ([], "", MAX_REQUESTS)
    assert refused(heard.output, over) == (503, (0, records.OVERLOADED))
    connection.finish(connection.requests[first])
    assert kinds(feed([begin(over) + params(SCRIPT, request_id=over)], connection)) == [(BEGUN, over)]


# Taking a request back


@pytest.mark.parametrize(
    ("before", "events"),
    [
        (begin(), []),
        (begin() + records.record(records.PARAMS, 1, b"\x0f\x0aSCRIPT"), []),
        (begin() + params(SCRIPT), [BEGUN]),
        (begin() + params(SCRIPT) + stdin(b"a"), [BEGUN, STDIN]),
        (begin() + params(SCRIPT) + stdin(), [BEGUN, READY]),
    ],
    ids=["begin", "part of params", "params", "part of stdin", "ready"],
)
@pytest.mark.parametrize("in_one_read", [True, False])
def test_an_abort_is_answered_at_once_in_any_state(before: bytes, events: list[int], in_one_read: bool) -> None:
    """END_REQUEST is owed as soon as ABORT_REQUEST has come, whatever came before, in the same read too."""
    heard = feed([before + abort()] if in_one_read else [before, abort()])
    assert kinds(heard) == [(event, 1) for event in (*events, ABORTED)]
    assert ends(heard.output) == {1: ENDED}
    assert heard.active == []


def test_a_script_that_goes_on_after_an_abort_sends_nothing() -> None:
    """The late parts, the late end and a second abort give no bytes, even once the id has begun anew."""
    connection = Connection()
    request = begun(connection, SCRIPT)
    assert ends(feed([stdin(b"x") + abort() + abort()], connection).output) == {1: ENDED}
    newer = begun(connection, SCRIPT)
    assert b"".join(connection.stdout(request, b"Status: 200 OK\r\n\r\n", b"late")) == b""
    assert b"".join(connection.stderr(request, b"late")) == b""
    assert b"".join(connection.reply(request, b"Status: 200 OK\r\n\r\n", b"late")) == b""
    assert connection.finish(request) == b""
    assert connection.requests == {1: newer}


# Replies


def test_a_reply_ends_stdout_and_then_the_request() -> None:
    """The last records are an empty STDOUT and END_REQUEST, and nothing is written to STDERR by itself."""
    connection = Connection()
    reply = connection.reply(begun(connection, SCRIPT), b"Status: 200 OK\r\n\r\n", b"hello")
    assert list(records.split(b"".join(reply))) == [
        (records.STDOUT, 1, b"Status: 200 OK\r\n\r\nhello"),
        (records.STDOUT, 1, b""),
        (records.END_REQUEST, 1, b"\0" * 8),
    ]
    assert connection.requests == {}


def test_a_part_without_bytes_gives_no_record() -> None:
    """An empty STDOUT or STDERR record would end the stream before its time."""
    connection = Connection()
    request = begun(connection, SCRIPT)
    assert connection.stdout(request, b"", b"") == []
    assert connection.stderr(request, b"") == []


def test_text_for_stderr_is_one_record_and_the_end_of_the_stream() -> None:
    """Text goes out with the type of STDERR; what is too long for a record is cut, and no text is nothing."""
    connection = Connection()
    request = begun(connection, SCRIPT)
    sent = list(records.split(b"".join(connection.stderr(request, b"line"))))
    assert sent == [(records.STDERR, 1, b"line"), (records.STDERR, 1, b"")]
    (_, _, content), _ = records.split(b"".join(connection.stderr(request, b"x" * 70_000)))
    assert content == b"x" * records.MAX_CONTENT
    assert connection.stderr(request, b"") == []


def test_the_end_carries_the_status_of_the_application() -> None:
    """A status other than 0 reaches the web server in END_REQUEST."""
    connection = Connection()
    assert ends(connection.finish(begun(connection, SCRIPT), 7)) == {1: (7, records.REQUEST_COMPLETE)}


writes = st.tuples(
    st.integers(1, 3),
    st.sampled_from(["stdout", "stdout", "stderr", "finish"]),
    st.sampled_from([0, 1, 500, 65_535, 65_536, 140_000]),
)


@quick
@given(st.lists(writes, max_size=12))
def test_writes_of_many_requests_interleave_by_whole_records(script: list[tuple[int, str, int]]) -> None:
    """Each call gives whole records of its own id, so calls of several requests may follow in any order."""
    connection = Connection()
    requests = {request_id: begun(connection, SCRIPT, request_id=request_id) for request_id in (1, 2, 3)}
    written = dict.fromkeys(requests, b"")
    client = Client()
    for request_id, what, size in script:
        request, data = requests[request_id], bytes((request_id,)) * size
        active = request_id in connection.requests
        if what == "stdout":
            sent = b"".join(connection.stdout(request, b"", data))
            written[request_id] += data if active else b""
        elif what == "stderr":
            sent = b"".join(connection.stderr(request, data))
        else:
            sent = connection.finish(request)
        assert {of for _, of, _ in records.split(sent)} <= {request_id}
        client.receive(sent)
    for request_id, reply in client.replies.items():
        assert reply.stdout == written[request_id]
        assert (reply.ended == ENDED) == reply.stdout_ended == (request_id not in connection.requests)


# The end of a connection


@pytest.mark.parametrize("sizes", [[1 << 16], [1]], ids=["one read", "byte by byte"])
@pytest.mark.parametrize(("flags", "keep"), [(0, False), (1, True), (0xFE, False), (0xFF, True)])
def test_a_connection_is_to_be_closed_after_a_reply_unless_the_lowest_flag_keeps_it(
    flags: int, keep: bool, sizes: list[int]
) -> None:
    """The other flags mean nothing; and what is under way is waited for."""
    connection = Connection()
    body = records.BEGIN_BODY.pack(records.RESPONDER, flags)
    heard = feed(cut(records.record(records.BEGIN_REQUEST, 1, body) + params(SCRIPT) + stdin(), sizes), connection)
    assert (kinds(heard)[-1], heard.should_close) == ((READY, 1), False)
    assert connection.requests[1].keep_conn == keep
    connection.finish(connection.requests[1])
    assert connection.should_close == (not keep)


@pytest.mark.parametrize(
    "refused",
    [records.begin_request(1, records.FILTER), records.begin_request(1) + abort()],
    ids=["refused", "aborted"],
)
def test_a_refused_or_aborted_request_without_keep_conn_leaves_the_connection_to_be_closed(refused: bytes) -> None:
    """No reply will come that could close the connection, so the refusal does."""
    connection = Connection()
    assert feed([refused], connection).active == []
    assert connection.should_close


def test_a_connection_is_at_no_boundary_once_it_has_refused_a_request() -> None:
    """The rest of a refused request may be on its way, and closing on it would reset what was sent."""
    connection = Connection()
    feed([begin() + abort()], connection)
    assert connection.at_boundary
    feed([begin(1, records.FILTER)], connection)
    assert not connection.at_boundary


def test_a_connection_owes_until_its_output_is_taken() -> None:
    """What the protocol answers by itself waits until it is asked for, and is handed over once."""
    connection = Connection()
    assert not connection.has_output
    assert list(connection.receive(records.get_values([]))) == []
    assert connection.has_output
    assert connection.take_output() == [records.record(records.GET_VALUES_RESULT, 0)]
    assert not connection.has_output
    assert connection.take_output() == []
