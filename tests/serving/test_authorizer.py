"""The role AUTHORIZER: a script decides whether a request goes on, and nothing goes on that it has not let through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from greenfcgi.fastcgi import records
from greenfcgi.fastcgi.client import Client, Reply

from ..support.running import Server

Serve = Callable[..., Server]

SCRIPTS = {
    "door.lua": """
        function main(env, con)
            local answer = env.HTTP_X_ANSWER
            if answer == "error" then error("no key") end
            if answer == "sleep" then con:sleep(60) end
            if answer == "login" then con:header("Location", "/login.lua") end
            if tonumber(answer) then con:status(tonumber(answer)) end
            con:header("Variable-AUTH_USER", "ada")
            con:puts(tostring(env.FCGI_ROLE) .. " " .. (env.SCRIPT_FILENAME or "nothing") .. " " .. con:gets())
        end
    """,
    "page.lua": "function main(env, con) con:puts('page') end",
}
SETTINGS = '[scripts]\nauthorizer = "door.lua"\n'


def ask(server: Server, answer: str, *, stdin: bytes = b"", **more: str) -> Reply:
    """One request to the authorizer, as a web server makes it before it delivers a file."""
    params = {"SCRIPT_FILENAME": "/srv/secret.pdf", "REQUEST_METHOD": "GET", "HTTP_X_ANSWER": answer} | more
    with server.connect() as connection:
        connection.send(Client.request(params, stdin, role=records.AUTHORIZER))
        return connection.reply()


def test_what_a_script_answers(serve: Serve) -> None:
    """A status of 200 lets through, and its `Variable-*` headers go on; anything else is the client's reply."""
    server = serve(SCRIPTS, SETTINGS)
    reply = ask(server, "200")
    assert (reply.status, reply.head["variable-auth_user"], reply.ended) == (200, ["ada"], (0, 0))
    assert reply.body == b"AUTHORIZER /srv/secret.pdf "
    assert ask(server, "401").status == 401
    assert ask(server, "204").status == 204
    assert ask(server, "login").head["location"] == ["/login.lua"]
    assert ask(server, "login").status == 302


def test_what_says_nothing_refuses(serve: Serve) -> None:
    """Without a status of the script's own the answer is 403, whatever the default of pages is; an error is 500."""
    server = serve(SCRIPTS, "timeout = 0.3\n" + SETTINGS + 'http_status = "200 Fine"\n')
    assert ask(server, "").status == 403
    assert ask(server, "error").status == 500
    assert ask(server, "sleep").status == 504


def test_it_has_no_body(serve: Serve) -> None:
    """It runs when its parameters are whole; a length is that of the other request, and what comes is passed over."""
    server = serve(SCRIPTS, SETTINGS + "max_post = 1\n")
    assert ask(server, "200", CONTENT_LENGTH="5000", stdin=b"x" * 5000).status == 200
    with server.connect() as connection:
        begin = records.begin_request(1, records.AUTHORIZER, keep_conn=True)
        params = records.encode_pairs([(b"HTTP_X_ANSWER", b"200")])
        connection.send(begin + records.record(records.PARAMS, 1, params) + records.record(records.PARAMS, 1))
        assert connection.reply().body == b"AUTHORIZER nothing "


def test_a_page_is_no_authorizer(serve: Serve) -> None:
    """A responder's request runs its own script, and lets nobody through; that may be the authorizer's, too."""
    server = serve(SCRIPTS, SETTINGS)
    assert server.get("page.lua").body == b"page"
    reply = server.get("door.lua", HTTP_X_ANSWER="")
    assert (reply.status, reply.body.split()[0]) == (200, b"nil")


@pytest.mark.parametrize("role", [records.AUTHORIZER, records.FILTER, 0, 9])
def test_without_the_setting_the_role_is_refused(serve: Serve, role: int) -> None:
    """The answer is a whole 403: after a bare END_REQUEST lighttpd would deliver the file."""
    server = serve(SCRIPTS, "" if role == records.AUTHORIZER else SETTINGS)
    with server.connect() as connection:
        connection.send(Client.request(server.params("page.lua"), role=role, keep_conn=True))
        reply = connection.reply()
        assert (reply.status, reply.stdout_ended, reply.ended) == (403, True, (0, records.UNKNOWN_ROLE))
        connection.send(Client.request(server.params("page.lua"), keep_conn=True))
        assert connection.reply().body == b"page"


def test_it_may_be_private(serve: Serve) -> None:
    """A script that the configuration names may have a name that nobody can ask for."""
    server = serve({"_door.lua": SCRIPTS["door.lua"]}, SETTINGS.replace("door", "_door"))
    assert ask(server, "200").status == 200


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("name", ["none.lua", "../door.lua", "door.txt"])
def test_a_script_that_is_not_there_stops_the_start(tmp_path: Path, name: str, processes: int) -> None:
    """One line says what was found and what is expected."""
    settings = f'processes = {processes}\n[scripts]\nauthorizer = "{name}"\n'
    with pytest.raises(AssertionError) as problem, Server(tmp_path, SCRIPTS, settings):
        pass
    assert f'[scripts] authorizer: found "{name}", expected a script: ' in str(problem.value)
    assert "Traceback" not in str(problem.value)
