"""The wire format: records and name-value pairs, each way, and what is said about bytes that are neither."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import accumulate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenfcgi.errors import ProtocolError
from greenfcgi.fastcgi import records
from greenfcgi.lua.engine import LuaEngine
from greenfcgi.lua.state import State

from ..support.inside import FLAVOURS, Inside
from ..support.inside import Request as LuaRequest

Pair = tuple[bytes, bytes]

quick = settings(max_examples=150, deadline=None, database=None)

#: What routes a request, names as long as those, what is joined, and anything else.
names = st.sampled_from(
    [
        b"SCRIPT_FILENAME", b"SCRIPT_FILENAME", b"CONTENT_LENGTH", b"HTTP_COOKIE", b"HTTP_X", b"HTTP_REFERER",
        b"SCRIPT_FILENAMF", b"SCRIPT_FILENAME_", b"SERVER_SOFTWAR", b"script_filename", b"",
    ]
) | st.binary(max_size=20)  # fmt: skip
values = (
    st.binary(max_size=20)
    | st.builds(bytes.__mul__, st.sampled_from([b"v", b"\0", b"\xff"]), st.integers(120, 300))
    | st.builds(lambda name, value: records.encode_pairs([(name, value)]), names, st.binary(max_size=9))
)


def pair_bytes(pair: Pair, long_name: bool, long_value: bool) -> bytes:
    """A name-value pair whose lengths take four bytes where asked for, needed or not."""
    encoded = b""
    for part, long in zip(pair, (long_name, long_value), strict=True):
        needs_four = long or len(part) > 127
        encoded += struct.pack("!I", len(part) | 0x8000_0000) if needs_four else bytes((len(part),))
    return encoded + pair[0] + pair[1]


#: Pairs, and a PARAMS stream that says them with lengths of either form.
params_streams = st.lists(st.tuples(st.tuples(names, values), st.booleans(), st.booleans()), max_size=12).map(
    lambda drawn: ([pair for pair, _, _ in drawn], b"".join(pair_bytes(*one) for one in drawn))
)


# Records


def test_a_record_is_eight_bytes_of_header_and_its_content() -> None:
    """The header has version, type, id, content length and padding length, in network order."""
    assert records.record(records.STDIN, 0x0102, b"abc") == b"\x01\x05\x01\x02\x00\x03\x00\x00abc"


def test_begin_request_says_role_and_keep_conn() -> None:
    """BEGIN_REQUEST has the role in two bytes, the flags in one, and five reserved bytes."""
    assert records.begin_request(1) == b"\x01\x01\x00\x01\x00\x08\x00\x00" + b"\0\1" + b"\0" + b"\0" * 5
    kept = records.begin_request(256, records.FILTER, keep_conn=True)
    assert kept == b"\x01\x01\x01\x00\x00\x08\x00\x00" + b"\0\3" + b"\1" + b"\0" * 5


def test_end_request_says_both_statuses() -> None:
    """END_REQUEST has the application's status in four bytes and the protocol's in one."""
    ended = records.end_request(3, 0x01020304, records.OVERLOADED)
    assert ended == b"\x01\x03\x00\x03\x00\x08\x00\x00" + b"\1\2\3\4" + b"\2" + b"\0" * 3


def test_unknown_type_names_the_type() -> None:
    """UNKNOWN_TYPE has id 0, and the type that was not known in the first of eight bytes."""
    assert records.unknown_type(200) == b"\x01\x0b\x00\x00\x00\x08\x00\x00" + b"\xc8" + b"\0" * 7


@pytest.mark.parametrize("size", [0, 1, 65_534, 65_535, 65_536, 131_070, 131_071, 200_000])
def test_a_stream_is_cut_into_full_records_and_never_ended_by_accident(size: int) -> None:
    """Data becomes as few records as it can, none of them empty, since an empty one would end the stream."""
    data = bytes(range(251)) * (size // 251 + 1)
    parts = list(records.split(b"".join(records.stream(records.STDOUT, 7, data[:size]))))
    assert b"".join(content for _, _, content in parts) == data[:size]
    assert all((kind, request_id) == (records.STDOUT, 7) for kind, request_id, _ in parts)
    assert len(parts) == -(-size // records.MAX_CONTENT)
    assert all(content for _, _, content in parts)


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 65_535), st.binary(max_size=30), st.integers(0, 255)),
        max_size=8,
    )
)
def test_records_with_any_padding_are_split_into_themselves(made: list[tuple[int, int, bytes, int]]) -> None:
    """Padding belongs to no content, whatever its length and its bytes."""
    data = b"".join(
        records.HEADER.pack(1, kind, request_id, len(content), padding) + content + b"\1" * padding
        for kind, request_id, content, padding in made
    )
    assert list(records.split(data)) == [one[:3] for one in made]


@pytest.mark.parametrize("missing", [1, 4, 8, 9, 15])
def test_a_record_that_is_cut_off_is_not_split(missing: int) -> None:
    """A record whose header or content is not whole raises."""
    data = records.begin_request(1)
    with pytest.raises(ProtocolError, match="cut off"):
        list(records.split((records.record(records.STDIN, 1) + data)[:-missing]))


def test_a_record_of_another_version_is_not_split() -> None:
    """Only version 1 is FastCGI 1.0."""
    with pytest.raises(ProtocolError, match="version 2"):
        list(records.split(b"\x02" + records.record(records.STDIN, 1)[1:]))


# Name-value pairs


def test_lengths_take_one_byte_up_to_127_and_four_above() -> None:
    """The encoder changes from one byte to four, with the highest bit set, between 127 and 128."""
    assert records.encode_pairs([(b"n", b"v" * 127)]) == b"\x01\x7fn" + b"v" * 127
    assert records.encode_pairs([(b"n", b"v" * 128)]) == b"\x01\x80\x00\x00\x80n" + b"v" * 128


def test_the_highest_bit_is_no_part_of_a_long_length() -> None:
    """A four-byte length counts 31 bits, here with a value longer than two bytes can say."""
    value = b"x" * 70_000
    data = b"\x80\x00\x00\x01\x80\x01\x11\x70" + b"n" + value
    assert records.decode_pairs(data) == [(b"n", value)]


@quick
@given(st.lists(st.tuples(names, values), max_size=12))
def test_encoded_pairs_decode_to_themselves(pairs: list[Pair]) -> None:
    """Names and values of any bytes come back in their order, duplicates included."""
    assert records.decode_pairs(records.encode_pairs(pairs)) == pairs


@quick
@given(params_streams)
def test_needlessly_long_lengths_are_legal(drawn: tuple[list[Pair], bytes]) -> None:
    """A length below 128 may be written in four bytes, in any mixture with short ones."""
    pairs, data = drawn
    assert records.decode_pairs(data) == pairs


@quick
@given(st.lists(st.tuples(st.tuples(names, values), st.booleans(), st.booleans()), max_size=5), st.data())
def test_a_truncated_tail_of_params_is_an_error(drawn: list[tuple[Pair, bool, bool]], data: st.DataObject) -> None:
    """A stream that ends inside a pair raises in every decoder; between two pairs it is a shorter stream."""
    encoded = [pair_bytes(*one) for one in drawn]
    borders = [0, *accumulate(map(len, encoded))]
    cut = data.draw(st.integers(0, borders[-1]) | st.sampled_from(borders))
    stream = b"".join(encoded)[:cut]
    if cut in borders:
        whole = [pair for pair, _, _ in drawn[: borders.index(cut)]]
        assert records.decode_pairs(stream) == whole
        return
    for decoder in (records.decode_pairs, records.params, records.routing):
        with pytest.raises(ProtocolError, match=f"cut off|only {cut} were sent"):
            decoder(stream)


@pytest.mark.parametrize(
    "data",
    [
        b"\x01",
        b"\x80",
        b"\x80\x00\x00",
        b"\x80\x00\x00\x01",
        b"\x01\x80\x00",
        b"\x01\x01n",
        b"\x0f\x05SCRIPT_FILENAME/a",
        b"\xff\xff\xff\xff\xff\xff\xff\xffn",
    ],
)
@pytest.mark.parametrize("decoder", [records.decode_pairs, records.params, records.routing])
def test_a_pair_that_is_cut_off_is_refused(decoder: Callable[[bytes], object], data: bytes) -> None:
    """A length that is not whole, and one that reaches beyond the end, raise however large they are."""
    with pytest.raises(ProtocolError, match="name-value pair"):
        decoder(data)


# CGI variables


def test_headers_are_joined_and_of_any_other_name_the_last_counts() -> None:
    """Several pairs of one header become a list, cookies one of their own kind; what is no list has its first value."""
    data = records.encode_pairs(
        [
            (b"HTTP_COOKIE", b"a=1"),
            (b"SCRIPT_FILENAME", b"/first.lua"),
            (b"HTTP_X_FORWARDED_FOR", b"x"),
            (b"HTTP_HOST", b"first"),
            (b"HTTP_COOKIE", b"b=2"),
            (b"SCRIPT_FILENAME", b"/last.lua"),
            (b"HTTP_X_FORWARDED_FOR", b""),
            (b"HTTP_X_FORWARDED_FOR", b"y"),
            (b"HTTP_HOST", b"second"),
            (b"HTTP_COOKIE", b"c=3"),
        ]
    )
    assert records.params(data) == {
        b"HTTP_COOKIE": b"a=1; b=2; c=3",
        b"SCRIPT_FILENAME": b"/last.lua",
        b"HTTP_X_FORWARDED_FOR": b"x, , y",
        b"HTTP_HOST": b"first",
    }
    assert records.routing(data) == (b"/last.lua", None)


def test_a_value_that_looks_like_a_pair_is_no_pair() -> None:
    """What looks like SCRIPT_FILENAME inside another value, or another name, does not choose the script."""
    trap = b"\x0f\x10SCRIPT_FILENAME/etc/secret.conf"
    data = records.encode_pairs(
        [
            (b"QUERY_STRING", b"q=" + trap),
            (b"SCRIPT_FILENAME", b"/srv/a.lua"),
            (b"HTTP_" + trap, trap),
            (b"QUERY_STRING", b"\x0e\x01CONTENT_LENGTH9"),
        ]
    )
    assert records.routing(data) == (b"/srv/a.lua", None)
    assert records.params(data)[b"SCRIPT_FILENAME"] == b"/srv/a.lua"


def test_an_absent_script_is_told_from_an_empty_one() -> None:
    """What is absent is None, what is empty is empty."""
    assert records.routing(b"") == (None, None)
    assert records.routing(records.encode_pairs([(b"SCRIPT_FILENAME", b"")])) == (b"", None)
    assert records.routing(records.encode_pairs([(b"CONTENT_LENGTH", b"")])) == (None, b"")


@quick
@given(params_streams)
def test_routing_says_what_params_says(drawn: tuple[list[Pair], bytes]) -> None:
    """The values of a few variables are those in the whole dictionary."""
    variables = records.params(drawn[1])
    assert records.routing(drawn[1]) == (variables.get(b"SCRIPT_FILENAME"), variables.get(b"CONTENT_LENGTH"))
    assert records.router([b"HTTP_COOKIE"])(drawn[1])[2:] == (variables.get(b"HTTP_COOKIE"),)


#: What an access log may want, with more names than Lua allows local variables.
_WANTED = (
    b"HTTP_COOKIE", b"HTTP_X", b"HTTP_REFERER", b"SCRIPT_FILENAMF", b"SCRIPT_FILENAME_", b"script_filename", b"",
    b"n" * 200, b'\0\r\n"\\\xff',
    *(b"HTTP_%d" % number for number in range(300)),
)  # fmt: skip


@pytest.fixture(scope="module")
def insides(tmp_path_factory: pytest.TempPathFactory) -> list[Inside]:
    """Every Lua."""
    made = [Inside(tmp_path_factory.mktemp(version), version) for version in FLAVOURS]
    for inside in made:
        inside.close()
    return made


@pytest.fixture(scope="module")
def flavours(insides: list[Inside]) -> list[LuaEngine]:
    """Their engines."""
    return [inside.engine for inside in insides]


@pytest.fixture(scope="module", params=[(), _WANTED], ids=["routing", "more"])
def routings(request: pytest.FixtureRequest, flavours: list[LuaEngine]) -> list[records.Routing]:
    """A router, and what may stand in its place: one for each Lua."""
    return [records.router(request.param), *(flavour.router(request.param) for flavour in flavours)]


@quick
@given(
    params_streams.map(lambda drawn: drawn[1])
    | params_streams.map(lambda drawn: drawn[1][:-1])
    | st.binary(max_size=20)
)
def test_routing_inside_lua_says_the_same(routings: list[records.Routing], data: bytes) -> None:
    """Every Lua finds in any stream what Python finds there, and refuses what Python refuses."""
    try:
        expected = routings[0](data)
    except ProtocolError:
        for routing in routings[1:]:
            with pytest.raises(ProtocolError, match="name-value pair is cut off"):
                routing(data)
    else:
        assert [routing(data) for routing in routings[1:]] == [expected] * len(FLAVOURS)


#: Around variables that are everywhere in what tests draw, and one that comes twice.
_TEMPLATES = (
    records.Template((b"", b' - %b "', b" 100%% ", b"\n"), (b"HTTP_COOKIE", b"HTTP_X", b"HTTP_COOKIE")),
    records.Template((b"<", b"\xff\0", b">"), (b"SCRIPT_FILENAME", b"HTTP_X"), needed=b"HTTP_X"),
    records.Template((b"only this",), ()),
    records.Template((), (b"HTTP_X", b"CONTENT_LENGTH")),
)


@pytest.fixture(scope="module", params=_TEMPLATES, ids=["text", "needed", "no variables", "no text"])
def text_routings(request: pytest.FixtureRequest, flavours: list[LuaEngine]) -> list[records.Routing]:
    """A router with a template, and what may stand in its place: one for each Lua."""
    return [records.router(request.param), *(flavour.router(request.param) for flavour in flavours)]


@quick
@given(params_streams.map(lambda drawn: drawn[1]))
@example(records.encode_pairs([(b"HTTP_X", b"a%20b%%b%d"), (b"HTTP_COOKIE", b"x")]))
@example(records.encode_pairs([(b"HTTP_X", b""), (b"HTTP_COOKIE", b"")]))
@example(records.encode_pairs([(b"HTTP_X", b"x"), (b"HTTP_COOKIE", b'"')]))
@example(records.encode_pairs([(b"HTTP_X", b"x" * records.MAX_VALUE), (b"HTTP_X", b"y")]))
def test_the_text_of_a_template_inside_lua_is_the_same(text_routings: list[records.Routing], data: bytes) -> None:
    """And where there is none, the same values come in its place."""
    expected = text_routings[0](data)
    assert [routing(data) for routing in text_routings[1:]] == [expected] * len(FLAVOURS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", b"-"),
        (b" !#$&'()*+,-./09:;<=>?@AZ[]^_`az{|}~", b" !#$&'()*+,-./09:;<=>?@AZ[]^_`az{|}~"),
        (b"%", b"%%"),
        (b"%%d%b", b"%%%%d%%b"),
        (b"v" * records.MAX_VALUE, b"v" * records.MAX_VALUE),
        (b"v" * (records.MAX_VALUE + 1), None),
        *((b"a" + bytes([byte]), None) for byte in (*range(0x20), 0x22, 0x5C, *range(0x7F, 0x100))),
    ],
)
def test_values_in_the_text_of_a_template(flavours: list[LuaEngine], value: bytes, expected: bytes | None) -> None:
    """Nothing that would have to be escaped, nothing long, and each percent sign twice; asked again, it is the same."""
    template = records.Template((b"[", b"]"), (b"HTTP_X",))
    data = records.encode_pairs([(b"HTTP_X", value)])
    for routing in [records.router(template), *(flavour.router(template) for flavour in flavours)]:
        for _ in range(2):
            found = routing(data)
            assert found == ((None, None, b"[%b]" % expected) if expected is not None else (None, None, None, value))


def test_a_template_with_many_different_values(flavours: list[LuaEngine]) -> None:
    """More of them than a router may remember, good and bad ones in turn."""
    template = records.Template((b"", b""), (b"HTTP_X",))
    expected = records.router(template)
    streams = [records.encode_pairs([(b"HTTP_X", b"%d%s" % (n, b"\n" * (n % 3 == 0)))]) for n in range(2000)]
    streams += streams
    for flavour in flavours:
        routing = flavour.router(template)
        assert [(routing(data), routing(data)) for data in streams] == [(expected(data),) * 2 for data in streams]


#: Puts out all variables of a request, each as the lengths of name and value, then both.
_ALL_VARIABLES = """
    function main(env, con)
        for name, value in pairs(env) do
            if type(value) == "string" then con:puts(("%08d%08d"):format(#name, #value), name, value) end
        end
    end
"""


def variables_in(output: bytes) -> dict[bytes, bytes]:
    """What `_ALL_VARIABLES` has put out."""
    found, at = {}, 0
    while at < len(output):
        name, value = int(output[at : at + 8]), int(output[at + 8 : at + 16])
        middle = at + 16 + name
        found[output[at + 16 : middle]] = output[middle : middle + value]
        at = middle + value
    return found


@pytest.fixture(scope="module")
def states(insides: list[Inside]) -> list[State]:
    """A state of every Lua, with `_ALL_VARIABLES`."""
    return [inside.load(_ALL_VARIABLES) for inside in insides]


@quick
@given(params_streams)
@example(([], b"\x01\x7fn" + b"v" * 127 + b"\x01\x80\0\0\x80m" + b"w" * 128))
@example(([], b"\x80\0\0\x80\x80\x01\0\0" + b"n" * 128 + b"v" * 65536 + b"\x80\0\0\0\x01x"))
@example(([], b"\x7f\x7f" + b"HTTP_X".ljust(127, b"_") + b"v" * 127 + b"\x80\0\0\x06\x01HTTP_Xw"))
def test_all_three_readers_of_lengths_agree(
    flavours: list[LuaEngine], states: list[State], drawn: tuple[list[Pair], bytes]
) -> None:
    """`records`, route.lua and boot.lua each read the lengths of pairs: they find the same in the same bytes."""
    _, data = drawn
    expected = records.params(data)
    asked = [name for name in expected if name not in records.ROUTING][:20]
    for engine, state in zip(flavours, states, strict=True):
        assert engine.router(asked)(data) == tuple(map(expected.get, (*records.ROUTING, *asked)))
        found = variables_in(Inside.run(state, LuaRequest(data)).body)
        # Some are there without being sent, and empty.
        assert {name: value for name, value in found.items() if value or name in expected} == expected


# Management


def test_get_values_asks_with_empty_values() -> None:
    """GET_VALUES has id 0, and names whose values are empty."""
    assert records.get_values([b"FCGI_MPXS_CONNS"]) == b"\x01\x09\0\0\0\x11\0\0" + b"\x0f\0FCGI_MPXS_CONNS"


def test_get_values_is_answered_with_known_names_each_once() -> None:
    """Unknown names are left out, and a name that was asked for twice is answered once."""
    asked = records.encode_pairs([(b"B", b""), (b"WHAT", b""), (b"A", b"ignored"), (b"B", b"")])
    [(kind, request_id, content)] = records.split(records.get_values_result(asked, {b"A": b"1", b"B": b"22"}))
    assert (kind, request_id) == (records.GET_VALUES_RESULT, records.MANAGEMENT_ID)
    assert records.decode_pairs(content) == [(b"B", b"22"), (b"A", b"1")]


@quick
@given(st.binary(max_size=60) | params_streams.map(lambda drawn: drawn[1][:-1]))
def test_garbage_raises_nothing_but_protocol_error(data: bytes) -> None:
    """Whatever the bytes, a decoder returns or raises `ProtocolError`, and all decoders of pairs agree."""
    answer = partial(records.get_values_result, known={b"": b"1"})
    verdicts = []
    for decoder in (records.decode_pairs, records.params, records.routing, answer):
        try:
            decoder(data)
            verdicts.append("fine")
        except ProtocolError as error:
            verdicts.append(str(error))
    assert len(set(verdicts)) == 1
    with suppress(ProtocolError):
        list(records.split(data))


def test_value_of_one_variable() -> None:
    """The last one of its name counts, and what only stands in a value is none."""
    data = records.encode_pairs(
        [(b"HTTPS", b""), (b"QUERY_STRING", b"\x06\x02SCHEMEon"), (b"LONG", b"x" * 300), (b"HTTPS", b"on")]
    )
    assert records.value_of(data, b"HTTPS") == b"on"
    assert records.value_of(data, b"LONG") == b"x" * 300
    assert records.value_of(data, b"SCHEME") is None
    assert records.value_of(data, b"NOWHERE") is None
