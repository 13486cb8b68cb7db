"""The site that `--init site` makes: it runs as it is, its form keeps notes, and nothing in it is unsafe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

from ..support.running import Server, until


@pytest.fixture
def site(tmp_path: Path) -> Server:
    """A server of a new site."""
    command = [sys.executable, "-m", "greenfcgi", "--init", "site", "--write", str(tmp_path / "site")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    written = (tmp_path / "site" / "config.toml").read_text()
    server = Server(tmp_path / "site", {}, "")
    server.config.write_text(written.replace('"127.0.0.1:9000"', f'"unix:{server.socket_path}"'))
    return server


def visit(server: Server) -> tuple[str, str, str]:
    """The first page, the cookie of its session, and the token of its form."""
    reply = server.get("index.lua")
    assert reply.status == 200
    page = reply.body.decode()
    return page, reply.head["set-cookie"][0].partition(";")[0], re.findall('name="csrf" value="([^"]+)"', page)[0]


def post(server: Server, cookie: str, **fields: str) -> tuple[int, str]:
    """The status and the page for a form."""
    reply = server.get(
        "index.lua", urlencode(fields).encode(), CONTENT_TYPE="application/x-www-form-urlencoded", HTTP_COOKIE=cookie
    )
    return reply.status, reply.body.decode()


def test_a_note_is_kept(site: Server) -> None:
    """It is on the page, escaped, and in the database after a restart."""
    with site:
        page, cookie, token = visit(site)
        assert "There are none yet." in page
        assert post(site, cookie, csrf=token, text="<b>hello</b>") == (303, "")
        assert "&lt;b&gt;hello&lt;/b&gt;" in visit(site)[0]
        site.stop()
        site.log_path.unlink()
        site.start()
        assert "&lt;b&gt;hello&lt;/b&gt;" in visit(site)[0]
    assert (site.folder / "data" / "session.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("text", "problem"), [(" ", "Write something first."), ("x" * 501, "That is too long.")])
def test_what_is_no_note(text: str, problem: str, site: Server) -> None:
    """The form comes back, with what is wrong."""
    with site:
        _, cookie, token = visit(site)
        status, page = post(site, cookie, csrf=token, text=text)
        assert status == 422
        assert problem in page
        assert f">{text}</textarea>" in page


def test_forms_of_other_sites(site: Server) -> None:
    """Without the token, nothing is kept."""
    with site:
        _, cookie, _ = visit(site)
        assert post(site, cookie, text="x")[0] == 403
        assert "There are none yet." in visit(site)[0]


def test_the_folder_has_no_database_in_git(site: Server) -> None:
    """What the site keeps is ignored."""
    with site:
        visit(site)
        until((site.folder / "data" / "site.db").exists)
    subprocess.run(["git", "init", "-q"], cwd=site.folder, check=True)
    done = subprocess.run(["git", "status", "--short", "-uall"], cwd=site.folder, capture_output=True, text=True)
    assert "config.toml" in done.stdout
    assert "data/.gitignore" in done.stdout
    assert "site.db" not in done.stdout
    assert "session.key" not in done.stdout
