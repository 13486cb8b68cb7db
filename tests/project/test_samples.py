"""The shipped scripts and the shipped configuration do what their comments say, on every Lua that lupa ships."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Reply

from ..support.running import Server

REPOSITORY = Path(__file__).parents[2]
MODULES = '[modules]\nmarkdown = "lua_scripts._lib.markdown_text"'
FLAVOURS = ["luajit21", "luajit20", "lua51", "lua52", "lua53", "lua54", "lua55"]


@pytest.fixture(scope="module", params=FLAVOURS)
def samples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a copy of the shipped scripts."""
    folder = tmp_path_factory.mktemp("samples")
    shutil.copytree(REPOSITORY / "lua_scripts", folder / "lua_scripts")
    with Server(folder, settings=f'[lua]\nversion = "{request.param}"\n[app]\ntitle = "a title"\n{MODULES}') as server:
        yield server


def text(reply: Reply) -> str:
    """The body of a reply that went well."""
    assert reply.status == 200, reply.stdout.decode()
    return reply.body.decode()


def test_hello(samples: Server) -> None:
    """hello.lua says hello."""
    assert text(samples.get("hello.lua")) == "Hello, world!\n"


def test_env_shows_every_variable_escaped(samples: Server) -> None:
    """env.lua lists the variables, and one with HTML in it shows as text."""
    page = text(samples.get("env.lua", HTTP_X_EVIL="<script>"))
    assert "<th>HTTP_X_EVIL</th><td>&lt;script&gt;</td>" in page
    assert "<th>REQUEST_METHOD</th><td>GET</td>" in page


def test_form_takes_get_and_post(samples: Server) -> None:
    """form.lua greets whoever sends a name, by GET and by POST, and joins what was chosen twice."""
    assert "Hello, <b>A &amp; B</b>! You like tea and coffee." in text(
        samples.get("form.lua?name=A+%26+B&like=tea&like=coffee")
    )
    assert "Hello, <b>Ada</b>!" in text(samples.get("form.lua", b"name=Ada"))
    assert "Hello" not in text(samples.get("form.lua"))


def test_upload_counts_what_it_reads_in_parts(samples: Server) -> None:
    """upload.lua reads a body in parts of 64 KiB, and refuses a GET."""
    assert text(samples.get("upload.lua", b"line\n" * 40_000)) == "200000 bytes, 40000 lines, read in 4 parts\n"
    refused = samples.get("upload.lua")
    assert (refused.status, refused.head["allow"]) == (405, ["POST, PUT"])


def test_counter_counts_in_its_state(samples: Server) -> None:
    """counter.lua counts the requests of its Lua state."""
    counts = [re.findall("served <b>([0-9]+)</b>", text(samples.get("counter.lua"))) for _ in range(3)]
    assert counts == [["1"], ["2"], ["3"]]


def test_json_is_json(samples: Server) -> None:
    """json.lua answers with a list, an object, or 404 with an object."""
    reply = samples.get("json.lua")
    assert reply.head["content-type"] == ["application/json"]
    assert [planet["name"] for planet in json.loads(text(reply))] == ["Mercury", "Venus", "Earth", "Mars"]
    assert json.loads(text(samples.get("json.lua?id=3"))) == {"id": 3, "name": "Earth", "moons": 1}
    missing = samples.get("json.lua?id=%229")
    assert (missing.status, json.loads(missing.body)) == (404, {"error": 'no planet has the id "9'})


def test_page_fills_its_template(samples: Server) -> None:
    """page.lua fills views/page.html, with what config.toml says and everything escaped."""
    page = text(samples.get("page.lua"))
    assert "<h1>a title</h1>" in page
    assert "<tr><td>5</td><td>25</td></tr>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_stream_arrives_in_parts(samples: Server) -> None:
    """stream.lua's first line is here before its last."""
    with samples.connect() as connection:
        connection.send(connection.client.request(samples.params("stream.lua")))
        while b"5 ..." not in (connection.client.replies[1].stdout if connection.client.replies else b""):
            connection.receive_some()
        assert connection.client.replies[1].ended is None
        assert connection.reply().body.endswith(b"1 ...\nLift-off!\n")


def test_markdown_is_made_html_by_a_library_of_python(samples: Server) -> None:
    """markdown.lua requires a module that is written in Python."""
    page = text(samples.get("markdown.lua"))
    assert "<h2>Written in Markdown</h2>" in page
    assert "<em>library of Python's</em>" in page
    assert "<td>three lines of Python</td>" in page


def test_every_sample_is_tested_here() -> None:
    """No sample is left out above."""
    names = {path.stem for path in (REPOSITORY / "lua_scripts").glob("*.lua")}
    assert names == {"hello", "env", "form", "upload", "counter", "json", "markdown", "page", "stream", "guestbook"}


def test_the_shipped_configuration_names_the_shipped_scripts() -> None:
    """config.toml serves lua_scripts/ on the address that the README gives."""
    shipped = tomllib.loads((REPOSITORY / "config.toml").read_text())
    assert shipped["bind"] == "127.0.0.1:9000"
    assert shipped["scripts"]["root"] == "lua_scripts"
