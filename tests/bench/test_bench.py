"""The benchmark: its short form as it runs in continuous integration, and the parts of it that only compute."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Literal, get_type_hints

import pytest

from ..bench import crowd, io, latency
from ..support.running import PATIENCE, until
from .__main__ import _choice, _names
from .busy import NOTHING
from .candidates import greenfcgi, variants
from .client import FastCGIClient
from .crowd import CrowdLine, CrowdPlan, coming, measure_crowd
from .crowd_clients import LOADS
from .errors import BenchError, NotInstalled
from .figure import Figure
from .frontend import frontend
from .hellos import CONNECTIONS, Latencies
from .latency_report import Results, as_text, write_json
from .load import Load, parse, wrk_program
from .machine import Setting
from .nginx import nginx_program
from .nginx_lua import nginx_lua
from .parts import GROWTH, MEMORY, Choice, available
from .peers import Upstream, started
from .plot import bars, drawn
from .processes import Server
from .results import of_line
from .rivals import floor, php_fpm, php_fpm_program, uwsgi, wsapi
from .rounds import Entry, Line, Plan, Sample
from .spread import Spread
from .throughput import rate_of
from .verdicts import ROOM, Verdict
from .work import BODY, HELLO, PAGE, ROWS, TABLE, UPLOAD, WAIT, Row

PROJECT = Path(__file__).parents[2]
#: Seconds; it takes less than three minutes of them, also where it runs a second series beside the parent.
SHORT_FORM = 400

_NEW_AND_CANNED: tuple[Literal["new", "canned"], ...] = ("new", "canned")

WRK = """Running 1s test @ http://127.0.0.1:40000/greenfcgi/new/hello
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.20ms  512.00us  12.34ms   91.31%
  Latency Distribution
     50%  980.00us
     75%    1.31ms
     90%    1.80ms
     99%    1.03s
  26890 requests in 1.10s, 4.21MB read
{errors}Requests/sec:  24445.45
Transfer/sec:      3.83MB
"""
ERRORS = """  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 17764
"""


def _missing() -> str:
    """Which program the short form lacks here, in one line; none when it is empty."""
    try:
        for program in (nginx_program, wrk_program, php_fpm_program):
            program()
    except NotInstalled as error:
        return str(error)
    return ""


@pytest.mark.skipif(bool(_missing()), reason=_missing())
def test_the_short_form_measures_checks_every_reply_and_memory(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    # Two rounds have both orders of the servers. What decides about growth has rounds of its own, and all of them.
    command = [sys.executable, "-m", "tests.bench", "--short", "--rounds", "2", "--json", str(file)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=SHORT_FORM, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    short = {row.name for row in ROWS if row.short}
    assert {line["row"] for line in found["rows"] if line["server"] == "greenfcgi"} == short
    for line in found["rows"]:
        assert line["faults"] == []
        assert line["replies_compared"] == 4  # two before and two after
        assert len(line["samples"]) == found["plan"]["rounds"]
    assert [line["row"] for line in found["rows"] if line["reference"]] == ["hello/new"] * len(short)
    assert all(line["targets"] for line in found["rows"] if line["server"] == "greenfcgi")
    assert {"ready", "one more process", "an idle kept connection"} <= {one["name"] for one in found["memory"]}
    assert found["regression"]["grown"] == []
    assert {"nginx", "wrk", "gevent", "lupa", "greenfcgi", "php-fpm"} <= set(found["setting"]["versions"])


def test_what_wrk_prints_is_read_in_milliseconds() -> None:
    load = parse(WRK.format(errors=""))
    assert load == Load(26890, 24445.45, 0.98, 1030.0, ())


def test_what_wrk_counts_as_an_error_is_kept() -> None:
    first, second = parse(WRK.format(errors=ERRORS)).errors
    assert first == "Socket errors: connect 0, read 3, write 0, timeout 1"
    assert second == "Non-2xx or 3xx responses: 17764"


@pytest.mark.parametrize("output", ["", WRK.format(errors="").replace("26890 requests", "0 requests")])
def test_a_run_without_replies_is_an_error(output: str) -> None:
    with pytest.raises(BenchError):
        parse(output)


def test_a_rate_counts_from_when_the_first_reply_could_come() -> None:
    """200 clients that each get a reply every 0.1 s have had 39 of them after 4 s."""
    assert rate_of(Load(200 * 39, 200 * 39 / 4.0, 100, 101, ())) == pytest.approx(2000)


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == (2.5, 1.0, 9.0)


@pytest.mark.parametrize(
    ("verdict", "met", "failed"),
    [
        (Verdict("ratio", 0.57, 0.57), True, False),
        (Verdict("ratio", 0.58, 0.57), False, False),
        (Verdict("ratio", 0.57 * ROOM + 0.001, 0.57), False, True),
        (Verdict("rate", 1950, 1950, least=True), True, False),
        (Verdict("rate", 1949, 1950, least=True), False, False),
        (Verdict("rate", 1950 / ROOM - 1, 1950, least=True), False, True),
        (Verdict("rate", 0, 1950, least=True), False, True),
        (Verdict("growth", -5, 1000), True, False),
    ],
)
def test_a_missed_target_fails_only_beyond_its_room(verdict: Verdict, met: bool, failed: bool) -> None:
    assert (verdict.met, verdict.failed) == (met, failed)


def test_the_expected_replies_are_what_their_names_say() -> None:
    assert len(BODY.body) == 102_400
    assert len(UPLOAD.upload) == 2**20
    assert UPLOAD.body == f"{len(UPLOAD.upload)} bytes, the last of them {UPLOAD.upload[-10:].decode()}\n".encode()
    for work in (PAGE, TABLE):
        assert work.body.count(b"<tr><td>") == 50
    assert b"&amp;" in TABLE.body
    assert b"&" not in PAGE.body


def test_each_server_has_a_script_for_each_work_that_it_is_measured_at() -> None:
    for peer in (greenfcgi(), *variants(), php_fpm(), uwsgi(), wsapi(), nginx_lua()):
        works = {row.work.name for row in ROWS if peer.does(row)} | ({"about"} if peer.about is None else set())
        missing = [name for name in works if not (peer.scripts / f"{name}{peer.suffix}").exists()]
        assert missing == [], peer.name


def test_a_server_that_is_not_installed_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.rivals.shutil.which", lambda *_, **__: None)
    for peer in (php_fpm(), uwsgi(), wsapi(), floor(), nginx_lua()):
        with pytest.raises(NotInstalled, match=r"^[^\n]+ is not installed: apt-get install [^\n]+$"):
            peer.configure(tmp_path, tmp_path / "socket", peer.scripts)


def _chosen(*, short: bool = False, only: list[str] | None = None, null: bool = False, peers: str = "") -> Choice:
    names = _names(peers) if peers else None
    return _choice(
        argparse.Namespace(short=short, only=only, null=null, peers=names, seconds=None, rounds=None, against=None)
    )


def test_everything_is_measured_when_nothing_is_chosen() -> None:
    choice = _chosen()
    assert choice.rows == list(ROWS)
    assert [peer.name for peer in choice.peers] == list(available())
    assert choice.includes(GROWTH)
    assert choice.includes(MEMORY, short=True)


def test_the_short_form_has_few_rows_and_two_servers() -> None:
    choice = _chosen(short=True)
    assert [row.name for row in choice.rows] == ["hello/new", "hello/kept", "page/new", "body/kept"]
    assert [peer.name for peer in choice.peers] == ["greenfcgi", "php-fpm"]
    assert not choice.includes(GROWTH)
    assert choice.includes(MEMORY, short=True)


def test_the_reference_is_always_among_the_chosen() -> None:
    assert [peer.name for peer in _chosen(peers="floor").peers] == ["php-fpm", "floor"]


def test_the_floor_alone_has_only_hellos() -> None:
    assert [row.name for row in _chosen(peers="floor").rows] == ["hello/new", "hello/kept"]


def test_only_one_part_leaves_out_all_others() -> None:
    choice = _chosen(only=[GROWTH])
    assert choice.rows == []
    assert choice.includes(GROWTH)
    assert not choice.includes(MEMORY, short=True)


def test_the_null_form_has_two_of_the_reference_and_only_rows() -> None:
    choice = _chosen(null=True)
    assert [peer.name for peer in choice.peers] == ["php-fpm-again", "php-fpm"]
    assert {row.connection for row in choice.rows} == {"new"}
    assert not choice.includes(GROWTH)


def test_a_server_that_there_is_not_is_one_line() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="there is no 'apache'"):
        _names("greenfcgi,apache")


def _line(
    name: str, row: Row, ratio: float, reference: bool = False, faults: tuple[str, ...] = (), floor: float | None = None
) -> Line:
    peer = available()[name]
    upstream = Upstream(peer, Server.__new__(Server), Path("socket"), peer.scripts)
    spread = Spread(ratio, ratio, ratio)
    sample = Sample(30.0 * ratio, 50.0, Load(1000, 1000.0, 1.0, 2.0, ()))
    to_base, to_floor = spread if peer.base else None, Spread(floor, floor, floor) if floor else None
    return Line(Entry(row, upstream, reference), (sample,), spread, spread, to_base, to_floor, 4, faults)


def test_only_the_server_itself_has_the_targets_of_a_row() -> None:
    assert [verdict.target for verdict in of_line(_line("greenfcgi", ROWS[0], 0.7))] == [ROWS[0].target]
    assert list(of_line(_line("uwsgi", ROWS[0], 0.9))) == []


@pytest.mark.parametrize(("name", "base", "limit"), [
    ("greenfcgi-log", "greenfcgi", 1.08), ("greenfcgi-compiled-log", "greenfcgi-compiled", 1.05),
])  # fmt: skip
def test_an_access_log_is_held_against_the_same_server_without_one(name: str, base: str, limit: float) -> None:
    (verdict,) = of_line(_line(name, ROWS[0], 1.2))
    assert (verdict.what, verdict.target, verdict.met) == (f"{name} hello/new to {base}", limit, False)


def test_the_compiled_core_is_held_against_the_source_at_hellos_only() -> None:
    (verdict,) = of_line(_line("greenfcgi-compiled", ROWS[0], 0.8))
    assert (verdict.target, verdict.met) == (0.85, True)
    page = next(row for row in ROWS if row.work == PAGE)
    assert list(of_line(_line("greenfcgi-compiled", page, 0.95))) == []


def test_hellos_are_held_against_the_floor_where_it_is_measured() -> None:
    """With the defaults and with the compiled core, over new connections and kept ones."""
    for name, targets in (("greenfcgi", (2.0, 3.0)), ("greenfcgi-compiled", (1.8, 2.6))):
        for row, target in zip(ROWS[:2], targets, strict=True):
            line = _line(name, row, 0.4, floor=target + 0.1)
            *_, verdict = of_line(line)
            assert (verdict.what, verdict.target, verdict.met) == (f"{name} {row.name} to floor", target, False)
    assert all("to floor" not in verdict.what for verdict in of_line(_line("greenfcgi", ROWS[0], 0.4)))


def test_the_compiled_core_is_left_out_where_it_cannot_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-compiler")
    with pytest.raises(NotInstalled, match=r"^greenfcgi-compiled is left out: [^\n]* there is no no-compiler$"):
        available()["greenfcgi-compiled"].configure(tmp_path, tmp_path / "socket", tmp_path)


def test_an_upload_is_held_against_the_reference_at_the_same_work() -> None:
    upload = next(row for row in ROWS if row.work == UPLOAD)
    line = _line("greenfcgi", upload, 0.8)
    (verdict,) = of_line(line)
    assert (verdict.what, verdict.target, verdict.met) == ("greenfcgi upload/new to php-fpm", 1.0, True)
    assert drawn(line) == line.same_work


def test_a_plot_has_the_reference_once_and_a_gap_between_rows() -> None:
    hello, page = ROWS[0], next(row for row in ROWS if row.work == PAGE)
    lines = [
        _line("greenfcgi", hello, 0.6),
        _line("php-fpm", hello, 1.0, reference=True),
        _line("greenfcgi", page, 0.9),
        _line("uwsgi", page, 2.0, faults=("status 500, 200 expected",)),
        _line("php-fpm", hello, 1.0, reference=True),
    ]
    assert [(bar.place, bar.line) for bar in bars(lines)] == [(0, lines[0]), (1, lines[1]), (3, lines[2])]


def test_the_plan_of_the_short_form_is_the_shorter_one() -> None:
    short, full = _chosen(short=True).plan, _chosen().plan
    assert short < full
    assert Plan(rounds=1, seconds=1) <= short


def test_hello_is_what_the_canned_reply_of_the_floor_must_be(tmp_path: Path) -> None:
    """The floor compiles, and its reply is built from the same expected hello."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler here")
    floor().configure(tmp_path, tmp_path / "socket", tmp_path)
    assert (tmp_path / "reply").read_bytes().endswith(b"\r\n\r\n" + HELLO.body)


def _lua_in_nginx() -> str:
    """Why it cannot be started here, in one line; none when it can."""
    with tempfile.TemporaryDirectory() as name:
        try:
            nginx_lua().configure(Path(name), Path(name, "socket"), Path(name))
        except NotInstalled as error:
            return str(error)
    return ""


@pytest.mark.skipif(bool(_lua_in_nginx()), reason=_lua_in_nginx())
def test_scripts_in_nginx_answer_as_all_others_and_so_do_canned_replies(tmp_path: Path) -> None:
    with started(nginx_lua(), tmp_path) as upstream, frontend(tmp_path, [upstream]) as door:
        for work in (HELLO, PAGE, TABLE, WAIT):
            replies = [door.fetch(upstream, connection, work) for connection in _NEW_AND_CANNED]
            assert replies == [(200, work.content_type, work.body)] * 2


def _results(lines: list[CrowdLine]) -> Results:
    setting = Setting("2026-11-25T16:00+00:00", "6.1", "a CPU", 2, 0.5, {"nginx": "1.22.1"})
    return Results(setting, latency._SHORT, None, None, lines)


def _crowd_lines(rounds: tuple[Latencies, ...], growth: tuple[int, ...]) -> list[CrowdLine]:
    return [CrowdLine("luajit21", NOTHING, connection, rounds, growth, (7, 8, 9)) for connection in CONNECTIONS]


def test_each_part_of_the_latencies_can_be_chosen() -> None:
    assert latency._options(["--only", "crowd", "--short"]).only == ["crowd"]
    assert latency._options(["--only", "crowd", "--only", "idle"]).only == ["crowd", "idle"]
    assert latency._SHORT.crowd < latency._FULL.crowd


@pytest.mark.parametrize("arguments", [["--only", "all"], ["--null", "--only", "crowd"], ["--null", "--only", "busy"]])
def test_a_part_that_there_is_not_or_has_no_null_form_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        latency._options(arguments)
    assert capsys.readouterr().err.splitlines()[-1].startswith("python -m tests.bench.latency: error: ")


@pytest.mark.parametrize(("p99", "megabytes", "verdicts"), [(50.0, 10, "met met"), (50.1, 11, "MISSED MISSED")])
def test_hellos_beside_a_crowd_are_held_against_both_targets(p99: float, megabytes: int, verdicts: str) -> None:
    """The medians of the rounds are."""
    rounds = tuple(Latencies(1.0, of_one, 2 * of_one, 3.0) for of_one in (1.0, p99, 900.0))
    text = as_text(_results(_crowd_lines(rounds, (0, megabytes << 20, 99 << 20))))
    head, *lines = text.splitlines()[-3:]
    assert head.split("  ")[0] == "Lua"
    for line, connection in zip(lines, CONNECTIONS, strict=True):
        one, other = verdicts.split()
        assert line.split()[:3] == ["luajit21", NOTHING, connection]
        assert f"{p99:.2f} (1.00..900.00)" in line
        assert "1800.00  3.00    <= 50 " + one in line
        assert line.endswith(f"{megabytes}.0 (0.0..99.0)  <= 10 {other}")


def test_the_latencies_beside_a_crowd_are_written_round_by_round(tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    write_json(_results(_crowd_lines((Latencies(1.0, 2.0, 3.0, 0.5),) * 3, (1, 2, 3))), file)
    found = json.loads(file.read_text())
    assert set(found) == {"setting", "plan", "crowd"}
    assert found["plan"]["crowd"] == latency._SHORT.crowd._asdict()
    assert found["crowd"][0] == {
        "flavour": "luajit21",
        "load": NOTHING,
        "connection": "kept",
        "rounds": [{"p50": 1.0, "p99": 2.0, "worst": 3.0, "worst_waited": 0.5}] * 3,
        "growth": [1, 2, 3],
        "replies": [7, 8, 9],
        "target": 50.0,
        "growth_target": 10 << 20,
    }


def test_every_load_comes_and_its_replies_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are of no interest here."""
    monkeypatch.setattr(crowd, "FLAVOURS", ("luajit21",))
    monkeypatch.setattr(crowd, "_USUAL", 0.0)
    monkeypatch.setattr(crowd, "_LONGEST", 0.0)
    told: list[str] = []
    # A short name, as sockets need it.
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        lines = measure_crowd(CrowdPlan(rounds=1, hellos=20, kills=3), Path(name), told.append)
    assert len(told) == len(LOADS) + 1
    assert [(line.load, line.connection) for line in lines] == [
        (load, connection)
        for load in (
            "nothing",
            "16 new connections on a script of 3 ms",
            "1 client in sequence on 8 ms",
            "84 requests in one write",
            "3 memory kills in sequence",
        )
        for connection in ("kept", "new")
    ]
    replies = {line.load.split()[0]: line.replies[0] for line in lines}
    assert replies["nothing"] == 0
    # One that ends well, then those that are ended.
    assert replies["3"] == 1 + 3
    assert replies["16"] >= 16
    assert replies["1"] >= 1
    assert replies["84"] % 84 == 0
    assert replies["84"] > 0


@pytest.mark.parametrize("name", LOADS)
def test_a_wrong_reply_to_one_of_the_crowd_is_one_line(tmp_path: Path, name: str) -> None:
    """The first twenty are right, and what ought to have been ended for want of memory ends well."""
    root = tmp_path / "scripts"
    root.mkdir()
    text = """
        local count = 0
        function main(env, con)
            count = count + 1
            con:puts(count > 20 and "wrong" or "WORD " .. env.QUERY_STRING .. " UNIT\\n")
        end
    """
    (root / "compute.lua").write_text(text.replace("WORD", "computed for").replace("UNIT", "ms"))
    (root / "hoard.lua").write_text(text.replace("WORD", "held").replace("UNIT", "MB"))
    with (
        started(greenfcgi(states="clones = 1\n"), tmp_path, root) as upstream,
        pytest.raises(BenchError) as caught,
        coming(name, upstream, kills=3) as clients,
    ):
        until(lambda: clients.may_end() and False, "the end of the clients")
    script, found = ("hoard", r"held 64 MB\n") if name == "kills" else ("compute", "wrong")
    start = f"the clients failed: wrong reply to {script}.lua: found Reply(status=200, body=b'{found}', stderr=b''), "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", io.PARTS)
def test_parts_of_what_scripts_call_give_figures(part: str) -> None:
    """Each is found by its name, so no type checker sees what it gives."""
    found = import_module(f"tests.bench.io_{part}").figures
    assert get_type_hints(found)["return"] == list[Figure]


def test_what_scripts_call_is_shown_in_a_table() -> None:
    """Each figure has a line, with its goal if it has one. A missing package is reported, and the other parts run."""
    command = [sys.executable, "-m", "tests.bench.io", "http", "form", "text"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=10 * PATIENCE, check=True)
    assert re.match(r"figure +goal\n", done.stdout)
    assert re.search(r"^http: greenfcgi\.http, a kept request +[\d.]+ +us +-$", done.stdout, re.MULTILINE)
    assert re.search(r"^form: the same, times reading it raw +[\d.]+ +<= 2 (met|MISSED)$", done.stdout, re.MULTILINE)
    assert ("text: " in done.stdout) != ("text: dkjson is not installed" in done.stderr)


def test_a_reply_that_was_not_asked_for_is_an_error(tmp_path: Path) -> None:
    """Requests that are sent together are told apart by their ids."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        with FastCGIClient(tmp_path / "socket") as client, listening.accept()[0] as server:
            server.sendall(bytes([1, 3, 0, 3, 0, 8, 0, 0]) + bytes(8))
            with pytest.raises(BenchError, match=r"^a record of type 3 for request 3, which does not wait for one$"):
                client.get_together(tmp_path / "hello.lua", "", 2)
