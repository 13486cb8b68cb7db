"""The sample guestbook.lua refuses what it has to refuse, and says so with a page. In a browser: tests/dev/."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from greenfcgi.fastcgi.client import Reply

from ..support.running import Server

image = pytest.importorskip("PIL.Image", reason="Pillow is not installed here")

REPOSITORY = Path(__file__).parents[2]
SETTINGS = """
[lua]
version = "{}"
[modules]
thumbnails = "lua_scripts._lib.thumbnails"
[scripts]
max_post = "4M"
"""
BOUNDARY = "----boundary"
PASSWORD = "correct horse"


@pytest.fixture(scope="module", params=["luajit21", "lua51", "lua54"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a copy of the shipped scripts."""
    folder = tmp_path_factory.mktemp("guestbook")
    shutil.copytree(REPOSITORY / "lua_scripts", folder / "lua_scripts")
    with Server(folder, settings=SETTINGS.format(request.param)) as started:
        yield started


class Client:
    """A browser without JavaScript: it keeps its cookie, and sends the token of the page that it has seen last."""

    def __init__(self, server: Server, address: str = "192.0.2.1") -> None:
        self._server = server
        self._address = address
        self.cookie = ""
        self.token = ""

    def ask(self, path: str, body: bytes | None = None, **params: str) -> Reply:
        """One request, by POST where there is a body."""
        info, _, query = path.partition("?")
        reply = self._server.get(
            f"guestbook.lua?{query}", body or b"", PATH_INFO=info, HTTP_COOKIE=self.cookie, REMOTE_ADDR=self._address,
            REQUEST_METHOD="GET" if body is None else "POST", **params,
        )  # fmt: skip
        for line in reply.head.get("set-cookie", []):
            self.cookie = line.partition(";")[0]
        found = re.search(rb'name="csrf" value="([^"]+)"', reply.body)
        if found:
            self.token = found[1].decode()
        return reply

    def post(self, path: str, **fields: str) -> Reply:
        """Send a form. `csrf` is the right one unless it is given."""
        body = urlencode({"csrf": self.token, **fields}, errors="surrogateescape").encode()
        return self.ask(path, body, CONTENT_TYPE="application/x-www-form-urlencoded")

    def post_photo(self, text: str, photo: bytes) -> Reply:
        """Send an entry with a file."""
        parts = [("csrf", self.token.encode()), ("text", text.encode()), ('photo"; filename="a.jpg', photo)]
        body = b"".join(
            b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            % (BOUNDARY.encode(), name.encode(), data)
            for name, data in parts
        )
        body += f"--{BOUNDARY}--\r\n".encode()
        return self.ask("/entries", body, CONTENT_TYPE=f"multipart/form-data; boundary={BOUNDARY}")

    def call(self, path: str, body: bytes, token: str | None = None) -> Reply:
        """Send JSON."""
        return self.ask(
            path, body, CONTENT_TYPE="application/json", HTTP_X_CSRF_TOKEN=self.token if token is None else token
        )

    def entries(self) -> list[dict[str, object]]:
        """What the API says is there."""
        found: list[dict[str, object]] = json.loads(self.ask("/api/entries").body)["entries"]
        return found


def registered(server: Server, name: str, address: str) -> Client:
    """A user, made anew. Users are allowed five from each address."""
    client = Client(server, address)
    client.ask("/register")
    reply = client.post("/register", name=name, password=PASSWORD)
    assert (reply.status, reply.head["location"]) == (303, ["/guestbook.lua/"])
    client.ask("/")
    return client


@pytest.fixture(scope="module")
def ada(server: Server) -> Client:
    """A user."""
    return registered(server, "Ada", "192.0.2.2")


@pytest.fixture(scope="module")
def bob(server: Server) -> Client:
    """Another user."""
    return registered(server, "Bob", "192.0.2.3")


def page(reply: Reply, status: int) -> str:
    """The text of a page with this status: a whole one, of the guestbook."""
    assert reply.status == status, reply.stdout.decode(errors="replace")
    assert reply.head["content-type"] == ["text/html; charset=utf-8"]
    text = reply.body.decode()
    assert 'class="brand"' in text
    return html.unescape(text)


def test_what_is_written_is_text(ada: Client) -> None:
    """HTML in an entry shows as it was written."""
    ada.post("/entries", text="<script>alert(1)</script> & so\r\non\0")
    reply = ada.ask("/")
    assert b"&lt;script&gt;alert(1)&lt;/script&gt; &amp; so\non<" in reply.body
    assert b"<script>alert" not in reply.body
    assert "script-src 'self'" in reply.head["content-security-policy"][0]
    assert ada.entries()[0]["text"] == "<script>alert(1)</script> & so\non"


def test_pages_that_are_not_there(ada: Client) -> None:
    """They are pages of the guestbook, too; and a photo that is none has no page."""
    assert "There is no such page." in page(ada.ask("/none"), 404)
    assert (ada.ask("/photos/12345").status, ada.ask("/entries").status) == (404, 405)


def test_forms_without_the_token(ada: Client, bob: Client) -> None:
    """Whatever changes something is refused without a token, and with another's."""
    before = ada.entries()
    for path in ("/entries", "/login", "/register", "/logout", "/entries/1/delete", "/entries/1/like"):
        for token in ("", "x", bob.token):
            kept = ada.token
            assert "was sent from another site" in page(ada.post(path, csrf=token, text="x"), 403)
            ada.token = kept
    page(ada.ask("/entries", b"text=x", CONTENT_TYPE="application/x-www-form-urlencoded"), 403)
    page(ada.ask("/logout", b""), 403)
    reply = ada.call(f"/api/entries/{before[0]['id']}/like", b'{"liked": true}', "x")
    assert (reply.status, "another site" in json.loads(reply.body)["error"]) == (403, True)
    assert ada.entries() == before


def test_entries_of_others(ada: Client, bob: Client, server: Server) -> None:
    """Nobody deletes what others have written, and who has not logged in is asked to."""
    ada.post("/entries", text="mine")
    entry = ada.entries()[0]
    page(bob.post(f"/entries/{entry['id']}/delete"), 404)
    stranger = Client(server)
    stranger.ask("/login")
    for path in (f"/entries/{entry['id']}/delete", f"/entries/{entry['id']}/like", "/entries"):
        assert stranger.post(path, text="x").head["location"] == ["/guestbook.lua/login"]
    assert stranger.call(f"/api/entries/{entry['id']}/like", b'{"liked": true}').status == 401
    assert ada.entries()[0] == entry
    assert ada.post(f"/entries/{entry['id']}/delete").status == 303
    assert entry not in ada.entries()


def test_texts_that_are_none(ada: Client) -> None:
    """Too long, empty, not UTF-8: a page that says so, and keeps what was written."""
    before = ada.entries()
    assert "1 to 1000 characters; this one has 1001" in page(ada.post("/entries", text="ä" * 1001), 400)
    assert "ä" * 1001 in page(ada.post("/entries", text="ä" * 1001), 400)
    assert "this one has 0" in page(ada.post("/entries", text=" \n\t "), 400)
    assert "not UTF-8" in page(ada.post("/entries", text="\udcff"), 400)
    kept = ada.token
    assert "more than 8192 bytes" in page(ada.post("/entries", text="x" * 2_000_000), 413)
    ada.token = kept
    broken = ada.ask("/entries", b"--x\r\nbroken", CONTENT_TYPE="multipart/form-data; boundary=x")
    page(broken, 400)
    ada.ask("/")
    assert ada.ask("/entries", b"x" * 5_000_000).status == 413
    assert ada.entries() == before


def picture(size: tuple[int, int], kind: str = "JPEG", **options: object) -> bytes:
    """A file with a picture in it."""
    data = io.BytesIO()
    image.new("RGB", size, "red").save(data, kind, **options)
    return data.getvalue()


def test_photos(ada: Client) -> None:
    """A photo is made small, upright, and says nothing more; and the browser asks whether it has it already."""
    exif = image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "taken at home"
    data = picture((2000, 1000), exif=exif, comment=b"taken at home")
    assert data.count(b"taken at home") == 2
    assert ada.post_photo("a photo", data).status == 303
    entry = ada.entries()[0]
    assert entry["photo"] == {"width": 480, "height": 960}
    reply = ada.ask(f"/photos/{entry['id']}")
    assert reply.head["content-type"] == ["image/jpeg"]
    assert reply.head["x-content-type-options"] == ["nosniff"]
    assert image.open(io.BytesIO(reply.body)).size == (480, 960)
    assert b"taken at home" not in reply.body
    assert ada.ask(f"/photos/{entry['id']}", HTTP_IF_NONE_MATCH=reply.head["etag"][0]).status == 304
    ada.ask("/")
    ada.post(f"/entries/{entry['id']}/delete")
    assert ada.ask(f"/photos/{entry['id']}").status == 404


@pytest.mark.parametrize(
    ("photo", "answer"),
    [
        (lambda: b"<script>alert(1)</script>", "cannot be read"),
        (lambda: b"", "cannot be read"),
        (lambda: picture((50, 50))[:300], "cannot be read"),
        (lambda: picture((50, 50), "TIFF"), "cannot be read"),
        (lambda: picture((8000, 8000), "PNG"), "too many pixels"),
    ],
    ids=["text", "empty", "cut off", "another kind", "a bomb"],
)
def test_photos_that_are_none(ada: Client, photo: Callable[[], bytes], answer: str) -> None:
    """What cannot be made small is refused, and the text is still in the form."""
    before = ada.entries()
    ada.ask("/")
    found = page(ada.post_photo("what I wrote", photo()), 400)
    assert answer in found
    assert ">what I wrote</textarea>" in found
    assert ada.entries() == before


def test_the_api(ada: Client) -> None:
    """JSON that is none is refused with JSON; a like counts once, however often it is sent."""
    ada.post("/entries", text="liked")
    path = f"/api/entries/{ada.entries()[0]['id']}/like"
    ada.ask("/")
    for body in (b"{", b"", b"[]", b"1", b"false", b'{"liked": 1}', b"\xff", b"[" * 900, b" " * 2000):
        reply = ada.call(path, body)
        assert reply.status in (400, 413), body
        assert json.loads(reply.body)["error"], body
    for _ in range(2):
        assert json.loads(ada.call(path, b'{"liked": true}').body) == {"liked": True, "likes": 1}
    assert json.loads(ada.call(path, b'{"liked": false}').body) == {"liked": False, "likes": 0}
    assert ada.call("/api/entries/999999999999999999999/like", b'{"liked": true}').status == 404
    for before in ("0", "x", "nan", "-1", "1e999", "%00"):
        assert ada.ask(f"/api/entries?before={before}").status == 200
        assert ada.ask(f"/?before={before}").status == 200


def test_logging_in(server: Server, ada: Client) -> None:
    """A wrong name and a wrong password look the same; ten wrong ones are enough, and a right one does not count."""
    client = Client(server, "192.0.2.77")
    client.ask("/login")
    answers = []
    for name, password in (("Ada", "wrong horse"), ("Eve", PASSWORD), ("ada' or 1=1 --", "x")):
        text = page(client.post("/login", name=name, password=password), 403)
        answers.append(re.sub(r'value="[^"]*"', "", text))
    assert answers[0] == answers[1]
    before = client.cookie
    assert client.post("/login", name="ADA", password=PASSWORD).status == 303
    assert client.cookie != before
    assert "Welcome, Ada." in page(client.ask("/"), 200)
    after = client.cookie
    client.post("/logout")
    client.cookie = after
    assert "Log out" not in page(client.ask("/login"), 200)
    for _ in range(7):
        page(client.post("/login", name="Ada", password="wrong horse"), 403)
    assert "Too many attempts" in page(client.post("/login", name="Ada", password=PASSWORD), 429)


def test_registering(server: Server, ada: Client) -> None:
    """Names and passwords that are none, names that somebody has, and too many of them are refused."""
    client = Client(server, "192.0.2.88")
    client.ask("/register")
    for name in ("", "A", "x" * 31, "<b>", "a b", "Zoë", "a\nb"):
        assert "A name has" in page(client.post("/register", name=name, password=PASSWORD), 400)
    assert "at least 8" in page(client.post("/register", name="Eve", password="short"), 400)
    for _ in range(5):
        assert "has this name already" in page(client.post("/register", name="aDa", password=PASSWORD), 409)
    assert "Too many users" in page(client.post("/register", name="Eve", password=PASSWORD), 429)


def test_passwords_are_not_kept(server: Server, ada: Client) -> None:
    """The database has hashes."""
    connection = sqlite3.connect(server.root.parent / "guestbook.db")
    (kept,) = connection.execute("select password from users where name = 'Ada'").fetchone()
    connection.close()
    assert kept.startswith("$argon2id$")


def test_live_entries(server: Server, ada: Client) -> None:
    """Who listens has an entry while the reply still goes on, and nothing of before."""
    with server.connect() as connection:
        connection.send(connection.client.request(server.params("guestbook.lua", PATH_INFO="/live")))
        while not (connection.client.replies and b"retry" in connection.client.replies[1].stdout):
            connection.receive_some()
        ada.ask("/")
        ada.post("/entries", text="line\nbreak </script>")
        while not connection.client.replies[1].stdout.endswith(b"}\n\n"):
            connection.receive_some()
        reply = connection.client.replies[1]
        assert reply.ended is None
        assert reply.head["content-type"] == ["text/event-stream"]
        events = re.findall(r"^data: (.*)$", reply.body.decode(), re.M)
        assert [json.loads(event)["text"] for event in events] == ["line\nbreak </script>"]
