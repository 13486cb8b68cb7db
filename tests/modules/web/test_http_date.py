"""greenfcgi.http_date: dates, ETags, and requests with conditions."""

from __future__ import annotations

import random
import time
from email.utils import formatdate

import pytest

from ...support.inside import Inside, Request

_HEAD = 'local http_date = require "greenfcgi.http_date"\nlocal function say(...) for i = 1, select("#", ...) do ' \
    'con:puts(tostring((select(i, ...))), "\\n") end end\n'  # fmt: skip
_NOON = 784111777
_DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def said(lua: Inside, statements: str) -> list[str]:
    """What a script says, line by line."""
    return lua.main(_HEAD + statements).text.splitlines()


def test_dates(lua: Inside) -> None:
    """The three forms, and what Python makes of the same times."""
    chosen = random.Random(1)
    times = [0, -1, 951782399, 951782400, 951868800, 2147483648, 4107542400, 253402300799]
    times += [chosen.randrange(-(10**10), 10**11) for _ in range(200)]
    lines = said(
        lua,
        "for _, t in ipairs {"
        + ",".join(map(str, times))
        + """} do
            local text = http_date.format(t)
            say(text)
            assert(http_date.parse(text) == t)
        end""",
    )
    assert lines == [formatdate(each, usegmt=True) for each in times]
    assert said(
        lua,
        f"""
        say(http_date.parse("{_DATE}"), http_date.parse("Sunday, 06-Nov-94 08:49:37 GMT"))
        say(http_date.parse("Sun Nov  6 08:49:37 1994"), http_date.format(1.5))
    """,
    ) == ["784111777"] * 3 + ["Thu, 01 Jan 1970 00:00:01 GMT"]
    now = int(said(lua, "say(http_date.parse(http_date.format()))")[0])
    assert abs(now - time.time()) < 60


@pytest.mark.parametrize(
    "bad",
    ["", "now", "0", _DATE[:-4], _DATE + " ", _DATE.replace("Nov", "Nov "), _DATE.replace("06", "31"),
     _DATE.replace("Nov", "Foo"), _DATE.replace("08:", "24:"), _DATE.replace("06 Nov", "29 Feb"),
     "Sun Nov 36 08:49:37 1994", _DATE.replace("06", "00"), _DATE.replace("GMT", "CET"), "\\0" + _DATE],
)  # fmt: skip
def test_what_is_no_date(lua: Inside, bad: str) -> None:
    """Nil and a message."""
    assert said(lua, f'say(http_date.parse("{bad}"))') == ["nil", "not a date of HTTP"]


@pytest.mark.parametrize(
    ("method", "conditions", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"IF_NONE_MATCH": '"v1"'}, 304),
        ("HEAD", {"IF_NONE_MATCH": '"v1"'}, 304),
        ("GET", {"IF_NONE_MATCH": 'W/"v1"'}, 304),
        ("GET", {"IF_NONE_MATCH": '"a,b", "v1"'}, 304),
        ("GET", {"IF_NONE_MATCH": "*"}, 304),
        ("GET", {"IF_NONE_MATCH": '"v2"'}, 200),
        ("GET", {"IF_NONE_MATCH": '"v2"', "IF_MODIFIED_SINCE": _DATE}, 200),
        ("PUT", {"IF_NONE_MATCH": "*"}, 412),
        ("GET", {"IF_MODIFIED_SINCE": _DATE}, 304),
        ("GET", {"IF_MODIFIED_SINCE": "Sun, 06 Nov 1994 08:49:36 GMT"}, 200),
        ("GET", {"IF_MODIFIED_SINCE": "nonsense"}, 200),
        ("POST", {"IF_MODIFIED_SINCE": _DATE}, 200),
        ("PUT", {"IF_MATCH": '"v1"'}, 200),
        ("PUT", {"IF_MATCH": "*"}, 200),
        ("PUT", {"IF_MATCH": 'W/"v1"'}, 412),
        ("PUT", {"IF_MATCH": '"v2", "v3"'}, 412),
        ("PUT", {"IF_UNMODIFIED_SINCE": _DATE}, 200),
        ("PUT", {"IF_UNMODIFIED_SINCE": "Sun, 06 Nov 1994 08:49:36 GMT"}, 412),
        ("PUT", {"IF_MATCH": '"v1"', "IF_UNMODIFIED_SINCE": "Sun, 06 Nov 1994 08:49:36 GMT"}, 200),
        ("GET", {"IF_NONE_MATCH": '"'}, 200),
        ("GET", {"IF_NONE_MATCH": "v1"}, 200),
    ],
)
def test_conditions(lua: Inside, method: str, conditions: dict[str, str], status: int) -> None:
    """What a request with these conditions gets."""
    request = Request({"REQUEST_METHOD": method} | {f"HTTP_{name}": value for name, value in conditions.items()})
    answer = lua.main(
        _HEAD
        + f"""
        con:puts("before")
        if http_date.not_modified(env, con, {{ etag = "v1", modified = {_NOON} }}) then return end
        con:puts("page")
    """,
        request,
    )
    assert answer.status == status
    assert 'ETag: "v1"' in answer.lines
    assert f"Last-Modified: {_DATE}" in answer.lines
    body = {200: b"beforepage", 304: b"", 412: b"The condition of the request is not met.\n"}[status]
    assert answer.body == (body if method != "HEAD" else b"")


def test_etags(lua: Inside) -> None:
    """Of a text; weak ones match for reading alone."""
    strong, weak, other, empty = said(
        lua,
        """
        say(http_date.etag("a"), http_date.etag("a", true), http_date.etag("b"), http_date.etag(""))
    """,
    )
    assert len({strong, other, empty}) == 3
    assert weak == f"W/{strong}"
    for method, name, tag, status in (
        ("GET", "IF_NONE_MATCH", weak, 304), ("GET", "IF_NONE_MATCH", strong, 304),
        ("PUT", "IF_MATCH", weak, 412), ("PUT", "IF_MATCH", strong, 412),
    ):  # fmt: skip
        request = Request({"REQUEST_METHOD": method, f"HTTP_{name}": tag})
        answer = lua.main(_HEAD + 'http_date.not_modified(env, con, { etag = http_date.etag("a", true) })', request)
        assert answer.status == status


def test_wrong_arguments(lua: Inside) -> None:
    """The error names the argument, at the script's line."""
    for call, says in (
        ("http_date.format('x')", "bad argument #1 to 'format' (found string"),
        ("http_date.format(0/0)", "bad argument #1 to 'format'"),
        ("http_date.format(1e20)", "bad argument #1 to 'format'"),
        ("http_date.parse(1)", "bad argument #1 to 'parse' (string expected, got number)"),
        ("http_date.etag()", "bad argument #1 to 'etag' (string expected, got nil)"),
        ("http_date.not_modified(nil, con, {})", "bad argument #1 to 'not_modified'"),
        ("http_date.not_modified(env, con)", "bad argument #3 to 'not_modified' (table expected, got nil)"),
        ("http_date.not_modified(env, con, {etag = 'a\"b'})", "found a quote within it"),
        ("http_date.not_modified(env, con, {etag = 'a\\r\\n'})", "without control characters"),
        ("http_date.not_modified(env, con, {modified = 'x'})", "bad argument #1 to 'format'"),
    ):
        error = lua.main(_HEAD + call).error
        assert says in error, call
        assert "page.lua:4: " in error
