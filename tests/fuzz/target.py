"""One input of the fuzzer: `check` raises when anything is not as it has to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from greenfcgi.errors import ProtocolError
from greenfcgi.fastcgi import connection, records, request
from greenfcgi.fastcgi.connection import BEGUN, Connection

from .inputs import MODES, PAIRS, Choices, pairs, read
from .responder import Responder
from .rules import Record, Rules, is_refused, variables, whole_pairs, whole_records

#: Limits as they are under the fuzzer: so low that short inputs reach them.
LIMITS = (
    (connection, "MAX_REQUESTS", 3), (connection, "MAX_PARAMS", 1000), (connection, "_LONG_PART", 5),
    (request, "_MAX_PARTS", 3),
)  # fmt: skip

#: What the responder says that it knows, in the check of GET_VALUES.
_KNOWN = {b"X": b"1", b"": b"2", b"FCGI_MPXS_CONNS": b"1"}


class Outcome(NamedTuple):
    """What became of an input that is as it has to be."""

    #: It ended in a `ProtocolError`.
    refused: bool
    #: How many of its requests came in whole, and were answered.
    answered: int


def check(data: bytes) -> Outcome:
    """Try one input. Raises AssertionError when a rule is broken, and whatever else the protocol raises."""
    if data and data[0] % MODES != PAIRS:
        return check_stream(data)
    choices = Choices(data[2:])
    return check_pairs(pairs(choices) if data[1:2] > b"\x7f" else choices.rest())


# Name-value pairs


def check_pairs(data: bytes) -> Outcome:
    """All decoders refuse the same, and otherwise say the same."""
    expected = whole_pairs(data)
    decoders = (records.decode_pairs, records.params, records.routing, _answer)
    found = [_or_none(decoder, data) for decoder in decoders]
    if expected is None:
        assert found == [None] * len(decoders), f"a cut off pair became {found}"
        return Outcome(True, 0)
    said = variables(expected)
    routing = said.get(b"SCRIPT_FILENAME"), said.get(b"CONTENT_LENGTH")
    names = dict.fromkeys(name for name, _ in expected if name in _KNOWN)
    assert found == [expected, said, routing, [(name, _KNOWN[name]) for name in names]]
    assert records.decode_pairs(records.encode_pairs(expected)) == expected
    return Outcome(False, 0)


def _or_none(decoder: Callable[[bytes], object], data: bytes) -> object:
    """What a decoder returns; None when it refuses."""
    try:
        return decoder(data)
    except ProtocolError:
        return None


def _answer(asked: bytes) -> object:
    """The pairs in the answer to GET_VALUES."""
    [(kind, request_id, content)] = records.split(records.get_values_result(asked, _KNOWN))
    assert (kind, request_id) == (records.GET_VALUES_RESULT, records.MANAGEMENT_ID)
    return whole_pairs(content)


# Streams


def check_stream(data: bytes) -> Outcome:
    """A stream means what the rules say, and in any cut the same."""
    stream, reads, answers = read(data)
    found, tail = whole_records(stream)
    responder = Responder(answers)
    _by_the_rules(responder, found, tail)
    responder.understand()
    for cut in ([stream], reads) if len(reads) > 1 else ([stream],):
        other = Responder(answers)
        _feed(other, cut)
        _compare(responder, other)
    return Outcome(bool(responder.error), responder.answered)


def _by_the_rules(responder: Responder, found: Iterable[Record], tail: bytes) -> None:
    """Feed record by record, and compare each with what the rules make of it."""
    rules, connection = Rules(), responder.connection
    for record in found:
        if not _one_record(responder, rules, record):
            break
    else:
        responder.receive(tail)
        assert bool(responder.error) == is_refused(tail), f"behind the records: {responder.error}"
    active = set(connection.requests)
    begun = {of: count - (of in active) for of, count in rules.begun.items()}
    # An END_REQUEST for each BEGIN_REQUEST whose request is over, and nothing with id 0 that was not asked for.
    assert +responder.ends == +Counter({**begun, 0: rules.asked})
    responder.settle()
    assert connection.keep_alive == rules.keep_alive
    assert connection.should_close == (not rules.keep_alive and not connection.requests)


def _feed(responder: Responder, reads: Iterable[bytes]) -> None:
    """Feed all reads, up to an error."""
    for one in reads:
        responder.receive(one)
        if responder.error:
            break
    responder.settle()


def _one_record(responder: Responder, rules: Rules, record: Record) -> bool:
    """Feed a record, and compare what comes of it with the rules. False when it is refused."""
    requests = responder.connection.requests
    before, active = len(responder.events), dict(requests)
    refused = rules.refuses(record, active)
    begins = not refused and rules.begins(record, active)
    expected = [] if refused else rules.means(record, active)
    responder.receive(record.data)
    news = responder.events[before:]
    assert bool(responder.error) == refused, f"{record[:3]}: {responder.error or 'taken'}"
    assert {of for _, of, _ in news} <= {record.request_id}
    meaning = [(event, data) for event, _, data in news]
    if record.request_id not in requests and [event for event, _ in meaning] == [BEGUN]:
        # It was answered when it began, so that READY does not come.
        expected = expected[:1]
    assert meaning == expected, f"{record[:3]}: {meaning}, expected {expected}"
    if record.kind == records.BEGIN_REQUEST and not refused:
        assert (record.request_id in requests) == begins, f"{record[:3]}: {'not ' * begins}active behind it"
    return not refused


def _compare(one: Responder, other: Responder) -> None:
    """Two cuts of a stream into reads have come to the same."""
    assert one.events == other.events
    assert b"".join(one.output) == b"".join(other.output)
    assert one.error == other.error
    assert _state(one.connection) == _state(other.connection)


def _state(connection: Connection) -> tuple[object, ...]:
    """What a connection says of itself."""
    flags = connection.should_close, connection.keep_alive, connection.at_boundary, connection.mid_record
    return sorted(connection.requests), *flags
