"""Programs in a whole server, with real deadlines and others who want their turns."""

from __future__ import annotations

import os
import time
from pathlib import Path

from greenfcgi.fastcgi.client import Client, Reply

from ...support.running import Connection, Server
from .child import Fault, Program, Reporter, limit
from .world import KNOWN_ANSWER, KNOWN_SCRIPT, NOBODY, Setup, furnish, head_problem

#: Seconds beyond the deadline for an answer: one call into C cannot be interrupted.
_BEYOND = 30.0


def run(flavour: str, programs: list[Program], folder: Path, reporter: Reporter) -> None:
    """Run programs of one batch in a server."""
    limit()
    setup = Setup.of(programs[0].seed)
    settings = setup.toml().replace("[lua]\n", f'[lua]\nversion = "{flavour}"\n')
    if os.geteuid() == 0:
        settings = 'user = "nobody"\n' + settings
    server = Server(
        folder, {"known/known.lua": KNOWN_SCRIPT}, "workers = 8\n" + settings + "[states]\nmax = 12\nclones = 3\n"
    )
    for one in programs:
        directory = server.root / f"p{one.seed}"
        furnish(directory)
        (directory / "page.lua").write_text(one.text)
        for path in [directory, *directory.rglob("*")] if os.geteuid() == 0 else []:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    reporter.tell(start=True)
    with server:
        for one in programs:
            reporter.tell(begin=one.seed)
            started = time.monotonic()
            outcome, detail, late = "ok", "", 0.0
            try:
                outcome, late = _try(server, one, setup)
            except Fault as fault:
                outcome, detail = fault.kind, fault.detail
            if server.has_ended():
                assert server.process is not None
                outcome, detail = f"crash: status {server.process.returncode}", detail + server.log()[-2000:]
            elif "Traceback (most recent call last)" in server.log():
                outcome, detail = "exception", server.log()[-3000:]
            reporter.tell(seed=one.seed, outcome=outcome, detail=detail, late=late, seconds=time.monotonic() - started)
            if server.has_ended() or outcome in ("hang", "exception"):
                os._exit(0)
        status = server.stop()
        if status:
            raise RuntimeError(f"the server ended with {status}: {server.log()[-2000:]}")


def _try(server: Server, one: Program, setup: Setup) -> tuple[str, float]:
    """Ask twice for the program, and for a known script meanwhile."""
    outcome, late = "ok", 0.0
    try:
        with server.connect() as first, server.connect() as second, server.connect() as known:
            for connection in (first, second, known):
                connection.socket.settimeout(setup.timeout + _BEYOND)
            script = f"p{one.seed}/page.lua?q=1"
            started = time.monotonic()
            first.send(server.request(script))
            body = b"k=v&" * 500
            params = server.params(script, REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)))
            second.send(Client.request(params, body))
            known.send(server.request("known/known.lua?q=1"))
            reply = _reply(known, "the known script")
            late = time.monotonic() - started - setup.timeout
            if reply.status != 504 and reply.body.decode("latin-1") != KNOWN_ANSWER:
                raise Fault("corrupt", f"the known script answered {reply.stdout!r:.1000}")
            for connection in (first, second):
                reply = _reply(connection, "the program")
                outcome = max(outcome, str(reply.status), key=len)
            late = max(late, time.monotonic() - started - setup.timeout)
    except (ConnectionError, FileNotFoundError) as problem:
        raise Fault("crash", f"no connection: {problem}") from None
    except TimeoutError:
        raise Fault("hang", f"no answer {_BEYOND:g} s beyond the deadline\n{server.log()[-1000:]}") from None
    return outcome, late


def _reply(connection: Connection, what: str) -> Reply:
    try:
        reply = connection.reply()
    except AssertionError as problem:
        partial = connection.client.replies.get(1)
        if partial is None or not partial.stdout:
            raise Fault("malformed", f"{what}: {problem}") from None
        # An error behind a flush: the reply is cut off, so that nobody takes it for a whole one.
        reply = partial
    head, end, _ = reply.stdout.partition(b"\r\n\r\n")
    problem_text = head_problem(head + end)
    if problem_text:
        raise Fault("malformed", f"{what}: {problem_text}")
    return reply
