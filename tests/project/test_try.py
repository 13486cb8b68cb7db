"""`--try`: one request through the whole server, with options as curl has them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from ..support.command import ECHO, MODULE, PROJECT, Result, refusal, run
from ..support.running import PATIENCE, Server, until

pytestmark = pytest.mark.pythons


def status_line(result: Result) -> str:
    """The last line of the header block."""
    return result.out.partition("\r\n\r\n")[0].rpartition("\r\n")[2]


def test_a_script_is_tried(folder: Path) -> None:
    """`--try` prints the whole response, header block and body, and nothing else."""
    result = run(folder, "--try", "/echo.lua?name=x&y=%20#part")
    head = "Content-Type: text/plain\r\nStatus: 200 OK\r\n\r\n"
    assert result == Result(0, head + "GET /echo.lua  name=x&y=%20", "")


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("/echo.lua/a/b?c", "GET /echo.lua /a/b c"),
        ("/echo.lua/", "GET /echo.lua / "),
        ("/echo.lua/other.lua/x", "GET /echo.lua /other.lua/x "),
        ("/%65cho%2elua/%41%2f", "GET /echo.lua /A/ "),
        ("/sub%20folder/p%C3%A4ge.lua/x", "GET /sub folder/päge.lua /x "),
        ("/./echo.lua", "GET /./echo.lua  "),
    ],
)
def test_the_path_is_split_as_a_web_server_does(folder: Path, url: str, answer: str) -> None:
    """PATH_INFO is what follows the script; percent-encoded characters are decoded."""
    (folder / "lua_scripts" / "sub folder").mkdir()
    (folder / "lua_scripts" / "sub folder" / "päge.lua").write_text(ECHO)
    result = run(folder, "--try", url)
    assert (result.status, result.out.partition("\r\n\r\n")[2], result.err) == (0, answer, "")


def test_a_script_that_is_not_there_is_tried(folder: Path) -> None:
    """The response is a 404, the reason is on stderr, and the exit status is 1."""
    result = run(folder, "--try", "/none.lua")
    assert (result.status, status_line(result)) == (1, "Status: 404 Not Found")
    assert "GET /none.lua: SCRIPT_FILENAME" in result.err
    assert result.err.endswith("/none.lua': No such file or directory\n")


FAILING = {
    "before any output": ('error("oh dear")', "Status: 500 Internal Server Error"),
    "after some output": ('con:puts("part") con:flush() error("oh dear")', "Status: 200 OK"),
}


@pytest.mark.parametrize("when", FAILING)
def test_a_script_that_fails_is_tried(folder: Path, when: str) -> None:
    """The error and Lua's traceback are on stderr, and the exit status is 1, also when the response had begun."""
    statements, status = FAILING[when]
    (folder / "lua_scripts" / "bad.lua").write_text(f"function main(env, con)\n{statements}\nend")
    result = run(folder, "--try", "/bad.lua")
    assert (result.status, status_line(result)) == (1, status)
    assert "bad.lua:2: oh dear\n" in result.err
    assert "stack traceback:" in result.err
    assert "File " not in result.err, "a traceback of Python"


def test_a_script_that_answers_with_an_error_is_tried(folder: Path) -> None:
    """A status of 400 and above is exit status 1, whoever has chosen it; a redirect is none."""
    script = "function main(env, con) con:status(tonumber(env.QUERY_STRING)) end"
    (folder / "lua_scripts" / "status.lua").write_text(script)
    for code, status in (("204", 0), ("302", 0), ("400", 1), ("503", 1)):
        assert run(folder, "--try", f"/status.lua?{code}").status == status, code


@pytest.mark.parametrize("url", ["echo.lua", "", "http://localhost/echo.lua", "?x", b"\xff"])
def test_what_is_not_a_path_is_reported_in_one_line(folder: Path, url: str | bytes) -> None:
    """`--try` wants a path below scripts.root."""
    line = refusal(run(folder, "--try", url))
    assert line.startswith("greenfcgi: --try: found ")
    assert "expected a path such as /hello.lua?name=x" in line


@pytest.mark.parametrize("url", ["//[", "/", "/../config.toml", "/echo.lua%00", "/lua_scripts", b"/\xff.lua", "/%"])
def test_strange_paths_are_answered_too(folder: Path, url: str | bytes) -> None:
    """A path that leads nowhere is a request like any other: a response, a line, no traceback."""
    result = run(folder, "--try", url)
    assert result.status == 1
    assert status_line(result).startswith("Status: 40")
    assert result.err.count("\n") == 1


def test_a_try_disturbs_no_server(tmp_path: Path) -> None:
    """It needs neither the address nor the log files of the server that runs with the same configuration."""
    settings = 'errorlog = "error.log"\naccesslog = "access.log"\npidfile = "pid"'
    script = 'function main(env, con) con:puts("tried") end function shutdown(con) con:log("gone") end'
    with Server(tmp_path, {"page.lua": script}) as server:
        server.config.write_text(server.config.read_text() + settings)
        before = sorted(os.listdir(server.folder))
        result = run(server.folder, "--try", "/page.lua")
        assert (result.status, result.out.partition("\r\n\r\n")[2]) == (0, "tried")
        assert "gone" in result.err, "its states shut down"
        assert sorted(os.listdir(server.folder)) == before
        assert server.get("page.lua").body == b"tried"


def test_a_try_can_be_interrupted(folder: Path) -> None:
    """Ctrl-C ends a script that waits, without a word."""
    (folder / "lua_scripts" / "wait.lua").write_text(
        'function main(env, con) assert(io.open("began", "w")):close() con:sleep(1000) end'
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [*MODULE, "--try", "/wait.lua"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE) as process:
        try:
            until((folder / "lua_scripts" / "began").exists)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == -signal.SIGINT
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b""


# Requests as curl makes them


#: Says what it got, all of it.
MIRROR = """
function main(env, con)
    con:header("Content-Type", "text/plain")
    local names = "REQUEST_METHOD CONTENT_TYPE CONTENT_LENGTH HTTP_HOST HTTP_X_A HTTP_COOKIE"
    for name in names:gmatch("%S+") do con:puts(name, "=", tostring(env[name]), "\\n") end
    con:puts("\\n", con:gets() or "")
end
"""


def asked(folder: Path, *arguments: str, stdin: bytes = b"") -> tuple[dict[str, str], str]:
    """The variables of a request and its body, as a script sees them."""
    (folder / "lua_scripts" / "mirror.lua").write_text(MIRROR)
    result = run(folder, "--try", "/mirror.lua", *arguments, stdin=stdin)
    assert (result.status, result.err) == (0, ""), result
    variables, _, body = result.out.partition("\r\n\r\n")[2].partition("\n\n")
    return dict(line.split("=", 1) for line in variables.split("\n")), body


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("arguments", "method", "content_type", "body"),
    [
        ([], "GET", "", ""),
        (["-X", "DELETE"], "DELETE", "", ""),
        (["--method=POST"], "POST", "", ""),
        (["-d", "a=b"], "POST", FORM, "a=b"),
        (["-d", "a=b", "--data", "c=ü"], "POST", FORM, "a=b&c=ü"),
        (["-X", "PUT", "-d", "x"], "PUT", FORM, "x"),
        (["-d", '{"a": 1}', "-H", "Content-Type: application/json"], "POST", "application/json", '{"a": 1}'),
        (["-d", "@lines", "-d", "x"], "POST", FORM, "onetwo&x"),
        (["--data-binary", "@lines"], "POST", FORM, "one\r\ntwo\n"),
        (["-d", "@-"], "POST", FORM, "from stdin"),
        (["-d", ""], "POST", FORM, ""),
    ],
)
def test_a_body(folder: Path, arguments: list[str], method: str, content_type: str, body: str) -> None:
    """It makes the request a POST of a form, unless options say otherwise."""
    (folder / "lines").write_bytes(b"one\r\ntwo\n")
    variables, found = asked(folder, *arguments, stdin=b"from stdin")
    assert (variables["REQUEST_METHOD"], variables["CONTENT_TYPE"], found) == (method, content_type, body)
    assert variables["CONTENT_LENGTH"] == (str(len(body.encode())) if content_type else "")


def test_headers(folder: Path) -> None:
    """By their names in any case; one that comes twice is joined, as by a web server; `Name:` takes one away."""
    headers = ["X-A: 1", "x-a: two, three", "Cookie: a=b", "cookie: c=d", "Host: example.org"]
    variables, _ = asked(folder, *(part for header in headers for part in ("-H", header)))
    assert variables["HTTP_X_A"] == "1, two, three"
    assert (variables["HTTP_COOKIE"], variables["HTTP_HOST"]) == ("a=b; c=d", "example.org")
    variables, _ = asked(folder, "-H", "Host:", "-H", "X-A;", "-d", "x", "-H", "Content-Type:")
    assert (variables["HTTP_HOST"], variables["HTTP_X_A"], variables["CONTENT_TYPE"]) == ("nil", "", "")


def test_a_form_with_files(folder: Path) -> None:
    """Fields and files, byte by byte, as `greenfcgi.form` reads what browsers send."""
    (folder / "picture.png").write_bytes(bytes(range(256)))
    (folder / "text").write_text("of a file\n")
    variables, body = asked(
        folder, "-F", "a=b c", "-F", "t=<text", "-F", "f=@picture.png", "-F", "g=@text;type=text/x;filename=q\"x",
    )  # fmt: skip
    boundary = variables["CONTENT_TYPE"].partition("multipart/form-data; boundary=")[2]
    assert re.fullmatch("-{24}[0-9a-f]{16}", boundary)
    assert variables["REQUEST_METHOD"] == "POST"
    parts = [part.partition("\r\n\r\n") for part in re.split(f"(?:\r\n)?--{boundary}(?:\r\n|--)", body)[1:-1]]
    lead = "Content-Disposition: form-data; name="
    assert [head for head, _, _ in parts] == [
        f'{lead}"a"', f'{lead}"t"', f'{lead}"f"; filename="picture.png"\r\nContent-Type: image/png',
        f'{lead}"g"; filename="q%22x"\r\nContent-Type: text/x',
    ]  # fmt: skip
    assert [content for _, _, content in parts[:2]] == ["b c", "of a file\n"]
    script = """
        local form = require "greenfcgi.form"
        function main(env, con)
            local fields, files = form.read(env, con)
            con:puts(fields.a, "|", files.f.name, "|", files.f.size, "|", files.f.type)
        end
    """
    (folder / "lua_scripts" / "read.lua").write_text(script)
    result = run(folder, "--try", "/read.lua", "-F", "a=b c", "-F", "f=@picture.png")
    assert result.out.endswith("\r\n\r\nb c|picture.png|256|image/png"), result


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("a=b;type=text/csv", '"a"\r\nContent-Type: text/csv\r\n\r\nb'),
        ('a="b;c"', '"a"\r\n\r\nb;c'),
        ('a=say "b"', '"a"\r\n\r\nsay "b"'),
        ('a=@"x;y.txt"', '"a"; filename="x;y.txt"\r\nContent-Type: text/plain\r\n\r\ntext'),
        ('a=@x.png;filename="p;q"', '"a"; filename="p;q"\r\nContent-Type: image/png\r\n\r\n'),
        ("a=@x.png;type=text/x; charset=utf-8;filename=p", '"a"; filename="p"\r\nContent-Type: text/x; charset=utf-8'),
    ],
)
def test_quotes_and_types_of_fields(folder: Path, field: str, part: str) -> None:
    """As curl has them."""
    (folder / "x;y.txt").write_text("text")
    (folder / "x.png").write_text("")
    _, body = asked(folder, "-F", field)
    assert f"\r\nContent-Disposition: form-data; name={part}" in body


def test_a_form_of_another_type_has_a_boundary(folder: Path) -> None:
    """Who gives the type of a form by hand does not know the boundary."""
    variables, body = asked(folder, "-F", "a=b", "-H", "Content-Type: multipart/form-data")
    boundary = variables["CONTENT_TYPE"].partition("multipart/form-data; boundary=")[2]
    assert body.startswith(f"--{boundary}\r\n")
    variables, _ = asked(folder, "-F", "a=b", "-H", "Content-Type: multipart/form-data; boundary=x")
    assert variables["CONTENT_TYPE"] == "multipart/form-data; boundary=x"


def test_a_fragment_stays_with_the_client(folder: Path) -> None:
    """As in every browser."""
    script = "function main(env, con) con:puts(env.REQUEST_URI) end"
    (folder / "lua_scripts" / "uri.lua").write_text(script)
    assert run(folder, "--try", "/uri.lua?a#part").out.endswith("\r\n\r\n/uri.lua?a")


def test_a_body_that_is_too_large(folder: Path) -> None:
    """The reply is shown, though nobody reads the body."""
    (folder / "large").write_bytes(bytes(8_000_000))
    result = run(folder, "--try", "/echo.lua", "--data-binary", "@large", "--set", "scripts.max_post=1K")
    assert (result.status, status_line(result)) == (1, "Status: 413 Content Too Large"), result
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-H", "nothing"], "--header: found 'nothing', expected one line such as \"Name: value\""),
        (["-H", "a b: c"], "--header: found 'a b: c', expected"),
        (["-H", "a: b\nc: d"], "--header: found 'a: b\\nc: d', expected"),
        (["-X", "A B"], "--method: found 'A B', expected a method such as POST"),
        (["-X", ""], "--method: found '', expected a method such as POST"),
        (["-d", "@none"], '--data: cannot read "none": No such file or directory'),
        (["-F", "x"], "--form: found 'x', expected NAME=VALUE or NAME=@FILE"),
        (["-F", "x=@none"], '--form: cannot read "none": No such file or directory'),
        (["-F", "x=@echo.lua;type=a/b"], '--form: cannot read "echo.lua": No such file or directory'),
        (["-F", "x=@config.toml;size=3"], "--form: found ';size=3' behind the value, expected ;type= or ;filename="),
        (["-F", "x=a;b"], "--form: found ';b' behind the value, expected ;type= or ;filename="),
    ],
)
def test_what_cannot_be_sent_is_reported_in_one_line(folder: Path, arguments: list[str], problem: str) -> None:
    """Before anything runs."""
    assert refusal(run(folder, "--try", "/echo.lua", *arguments)).startswith(f"greenfcgi: {problem}")
