"""A broken save under several processes: the version that loaded last in any of them is served by all."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from greenfcgi.fastcgi.client import Client
from greenfcgi.reload import version_store
from greenfcgi.reload.last_good import LastGood
from greenfcgi.reload.version_store import VersionStore
from greenfcgi.scripts.catalogue import Catalogue
from greenfcgi.scripts.file_signature import digest
from greenfcgi.scripts.texts import Text, Texts

from ..support.inside import Inside
from ..support.processes import children, is_alive
from ..support.running import Connection, Server, until

Serve = Callable[..., Server]

TWO = "processes = 2\nheartbeat = 0.05\n"
#: Says which version it is, and which process answers.
PAGE = "function main(env, con) con:puts('{} ' .. io.open('/proc/self/stat'):read('*n')) end\n"
BROKEN = "function main(env, con) con:puts( end"
STAYS = "the last good version stays in service"


def ask(connection: Connection, server: Server, name: str) -> tuple[int, str]:
    """The status and the body of a request on a kept connection."""
    connection.send(Client.request(server.params(name), keep_conn=True))
    reply = connection.reply()
    return reply.status, reply.body.decode()


def logged(server: Server, name: str, text: str) -> int:
    """The number of lines in the log that say this of a script."""
    return sum(f"{server.root}/{name}: " in line and text in line for line in server.log().splitlines())


def save(server: Server, name: str, text: str) -> None:
    """Put a file in its place in one step: an empty module loads, too."""
    server.write(f"{name}.fresh", text).replace(server.root / name)


class Both:
    """A connection to each process of a server."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server = server
        save(server, "which.lua", PAGE.format("which"))
        #: By process.
        self.connections: dict[int, Connection] = {}

        def reached() -> bool:
            connection = stack.enter_context(server.connect())
            self.connections.setdefault(int(ask(connection, server, "which.lua")[1].split()[1]), connection)
            return set(self.connections) == set(children(server.pid))

        until(reached, "a connection to each process")

    def answers(self, name: str) -> set[str]:
        """What they say, each of them."""
        return {
            f"{status} {body.split()[0] if status == 200 else ''}".strip()
            for status, body in (ask(one, self.server, name) for one in self.connections.values())
        }

    def one(self) -> Connection:
        """One of the connections."""
        return next(iter(self.connections.values()))


@pytest.fixture
def both(serve: Serve) -> object:
    """Starts a server with two processes, and connects to each of them."""
    with ExitStack() as stack:
        yield lambda scripts, settings=TWO: Both(serve(scripts, settings), stack)


Start = Callable[..., Both]


class TestBrokenSave:
    @pytest.mark.parametrize("engine", ["inotify", "poll"])
    def test_in_a_process_that_has_not_loaded_the_script(self, both: Start, engine: str) -> None:
        """It takes the version that another process has loaded, and says so once; a fixed save is served by both."""
        settings = TWO + f'reload_engine = "{engine}"\npoll_interval = 0.05\n'
        at = both({"page.lua": PAGE.format("good")}, settings)
        server = at.server
        assert ask(at.one(), server, "page.lua")[1].startswith("good ")
        save(server, "page.lua", BROKEN)
        for _ in range(20):
            assert at.answers("page.lua") == {"200 good"}
        until(lambda: logged(server, "page.lua", STAYS) == 2, "a line of each process")
        assert f"{server.root}/page.lua: does not load; {STAYS}: " in server.log()
        assert f"{server.root}/page.lua: changed, but does not load; {STAYS}: " in server.log()
        save(server, "page.lua", PAGE.format("fixed"))
        until(lambda: at.answers("page.lua") == {"200 fixed"})
        assert logged(server, "page.lua", "loads again") == 2
        save(server, "page.lua", BROKEN)
        until(lambda: logged(server, "page.lua", STAYS) == 4)
        assert at.answers("page.lua") == {"200 fixed"}

    def test_over_a_reload_of_the_configuration(self, both: Start) -> None:
        """SIGHUP, with another number of processes: all that are new serve it; a fixed save is served by all."""
        at = both({"page.lua": PAGE.format("good")})
        server, before = at.server, children(at.server.pid)
        assert at.answers("page.lua") == {"200 good"}
        save(server, "page.lua", BROKEN)
        until(lambda: logged(server, "page.lua", STAYS) == 2)
        server.config.write_text(server.config.read_text().replace("processes = 2", "processes = 3"))
        for times in (1, 2):
            server.send_signal(signal.SIGHUP)
            until(lambda times=times: server.log().count("3 processes running") == times)  # type: ignore[misc]
            assert [server.get("page.lua").status for _ in range(30)] == [200] * 30
        until(lambda: not any(map(is_alive, before)))
        save(server, "page.lua", PAGE.format("fixed"))
        until(lambda: {server.get("page.lua").body.split()[0] for _ in range(30)} == {b"fixed"})

    def test_in_a_process_that_takes_the_place_of_one_that_ended(self, both: Start) -> None:
        """Also of all of them, one after the other."""
        at = both({"page.lua": PAGE.format("good")})
        server, before = at.server, children(at.server.pid)
        assert ask(at.one(), server, "page.lua")[0] == 200
        save(server, "page.lua", BROKEN)
        until(lambda: STAYS in server.log())
        for victim in before:
            os.kill(victim, signal.SIGKILL)
            until(lambda victim=victim: victim not in children(server.pid) and len(children(server.pid)) == 2)  # type: ignore[misc]
            assert [server.get("page.lua").status for _ in range(20)] == [200] * 20
        assert not set(before) & set(children(server.pid))

    def test_in_a_new_binary(self, both: Start) -> None:
        """SIGUSR2: what takes over the sockets takes over the last good versions, too."""
        at = both({"page.lua": PAGE.format("good")}, TWO + 'pidfile = "pid"\n')
        server = at.server
        assert at.answers("page.lua") == {"200 good"}
        save(server, "page.lua", BROKEN)
        until(lambda: logged(server, "page.lua", STAYS) == 2)
        server.send_signal(signal.SIGUSR2)
        until(lambda: server.log().count(" serves ") == 2)
        new = int((server.folder / "pid").read_text())
        try:
            assert server.stop() == 0
            assert [server.get("page.lua").status for _ in range(20)] == [200] * 20
        finally:
            os.kill(new, signal.SIGTERM)
            until(lambda: not is_alive(new))

    @pytest.mark.parametrize("harm", ["broken", "missing", "folder"])
    @pytest.mark.parametrize("part", ["module", "deep module", "dofile", "startup"])
    def test_of_a_part(self, both: Start, part: str, harm: str) -> None:
        """A module, a file that is run, or scripts.startup is broken or gone: the whole version goes on in all."""
        at = both(
            {
                "page.lua": "local part = require 'part' dofile 'run.lua'\n"
                "function main(env, con) con:puts(started .. part .. ran) end",
                "part.lua": "return require 'lib.deep'",
                "lib/deep.lua": "return 'b'",
                "run.lua": "ran = 'c'",
                "start.lua": "started = 'a'",
            },
            TWO + '[scripts]\nstartup = "lua_scripts/start.lua"\n',
        )
        server = at.server
        name = {"module": "part.lua", "deep module": "lib/deep.lua", "dofile": "run.lua", "startup": "start.lua"}[part]
        path = server.root / name
        text = path.read_text()
        assert ask(at.one(), server, "page.lua") == (200, "abc")
        if harm == "broken":
            save(server, name, "return return")
        else:
            path.unlink()
        if harm == "folder":
            path.mkdir()
        for _ in range(10):
            assert at.answers("page.lua") == {"200 abc"}
        until(lambda: logged(server, "page.lua", STAYS) == 2)
        assert at.answers("page.lua") == {"200 abc"}
        if harm == "folder":
            path.rmdir()
        save(server, name, text.replace("'b'", "'new'").replace("'c'", "'new'").replace("'a'", "'new'"))
        expected = {"module": "abc", "deep module": "anewc", "dofile": "abnew", "startup": "newbc"}[part]
        until(lambda: logged(server, "page.lua", "loads again") == 2)
        assert at.answers("page.lua") == {f"200 {expected}"}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    @pytest.mark.parametrize("name", ["page.lua", "part.lua"])
    def test_of_rights(self, name: str) -> None:
        """Scripts of another user than root: a file that they may not read is as one that does not load."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            os.chmod(folder, 0o755)
            scripts = {
                "page.lua": "local part = require 'part'\nfunction main(env, con) con:puts('good') end", "part.lua": "",
            }  # fmt: skip
            server = stack.enter_context(Server(Path(folder), scripts, TWO + 'user = "nobody"\n'))
            at = Both(server, stack)
            assert ask(at.one(), server, "page.lua")[0] == 200
            (server.root / name).chmod(0)
            for _ in range(10):
                assert at.answers("page.lua") == {"200 good"}
            until(lambda: logged(server, "page.lua", STAYS) == 2)
            server.send_signal(signal.SIGHUP)
            server.logged("2 processes running")
            assert {server.get("page.lua").status for _ in range(20)} == {200}

    def test_with_a_module_that_requests_have_required(self, both: Start) -> None:
        """What has come to a version since it was loaded is part of it, from whichever process."""
        page = "function main(env, con) con:puts('good' .. require(env.QUERY_STRING)) end"
        at = both({"page.lua": page, "a.lua": "return 'a'", "b.lua": "return 'b'"})
        server = at.server
        one, other = at.connections.values()
        assert ask(one, server, "page.lua?a") == (200, "gooda")
        assert ask(other, server, "page.lua?b") == (200, "goodb")
        store = until(lambda: {"a.lua", "b.lua"} <= set(kept(server, "page.lua")), "both modules in the store")
        assert store
        for name in ("a.lua", "b.lua", "page.lua"):
            save(server, name, "return return")
        until(lambda: logged(server, "page.lua", STAYS) == 2)
        for victim in children(server.pid):
            os.kill(victim, signal.SIGKILL)
        until(lambda: not set(children(server.pid)) & set(at.connections) and len(children(server.pid)) == 2)
        for name in ("a", "b"):
            assert {server.get(f"page.lua?{name}").body for _ in range(20)} == {f"good{name}".encode()}

    def test_beside_a_new_module_that_is_broken(self, both: Start) -> None:
        """A file that comes to stand before one of its name is none of the good version's, in any process."""
        at = both(
            {"page.lua": "local part = require 'part'\nfunction main(env, con) con:puts(part) end"},
            TWO + '[lua]\npath = ["modules"]\n',
        )
        server = at.server
        modules = server.folder / "modules"
        modules.mkdir()
        (modules / "part.lua").write_text("return 'good'")
        assert ask(at.one(), server, "page.lua") == (200, "good")
        save(server, "part.lua", "return return")
        for _ in range(10):
            assert at.answers("page.lua") == {"200 good"}
        until(lambda: logged(server, "page.lua", STAYS) == 2)
        assert at.answers("page.lua") == {"200 good"}

    def test_without_reload(self, both: Start) -> None:
        """`reload = false`: what has been loaded goes on in all, until processes are new and the files are sound."""
        at = both({"page.lua": PAGE.format("good")}, TWO + "reload = false\n")
        server = at.server
        assert ask(at.one(), server, "page.lua")[0] == 200
        save(server, "page.lua", BROKEN)
        assert at.answers("page.lua") == {"200 good"}
        save(server, "page.lua", PAGE.format("fixed"))
        assert at.answers("page.lua") == {"200 good"}
        server.send_signal(signal.SIGHUP)
        server.logged("2 processes running")
        until(lambda: {server.get("page.lua").body.split()[0] for _ in range(20)} == {b"fixed"})

    def test_with_a_fresh_state_for_each_request(self, both: Start) -> None:
        """`per_request`: each request has the last good version."""
        at = both({"page.lua": PAGE.format("good")}, TWO + "[states]\nper_request = true\n")
        server = at.server
        assert ask(at.one(), server, "page.lua")[0] == 200
        save(server, "page.lua", BROKEN)
        for _ in range(20):
            assert at.answers("page.lua") == {"200 good"}


class TestNoGoodVersion:
    def test_was_ever_there(self, both: Start) -> None:
        """500 with the reason from both, and the log says once in each that there is none."""
        at = both({"page.lua": BROKEN}, TWO + "[scripts]\nshow_errors = true\n")
        server = at.server
        for connection in at.connections.values():
            for _ in range(3):
                status, body = ask(connection, server, "page.lua")
                assert (status, "page.lua:1:" in body) == (500, True)
        assert server.log().count("page.lua: does not load, and no version of it has since the server was started") == 2
        save(server, "page.lua", PAGE.format("good"))
        until(lambda: at.answers("page.lua") == {"200 good"})

    def test_after_a_start_from_nothing(self, both: Start) -> None:
        """Nothing is left of a server that has ended."""
        at = both({"page.lua": PAGE.format("good")})
        server = at.server
        assert at.answers("page.lua") == {"200 good"}
        save(server, "page.lua", BROKEN)
        server.stop()
        server.log_path.unlink()
        server.start()
        assert {server.get("page.lua").status for _ in range(10)} == {500}
        assert "no version of it has since the server was started" in server.log()

    def test_is_served_when_the_script_is_deleted(self, both: Start) -> None:
        """404 from both; and what comes in its place and does not load is no new version of it."""
        at = both({"page.lua": PAGE.format("good")})
        server = at.server
        assert at.answers("page.lua") == {"200 good"}
        save(server, "page.lua", BROKEN)
        until(lambda: logged(server, "page.lua", STAYS) == 2)
        (server.root / "page.lua").unlink()
        until(lambda: at.answers("page.lua") == {"404"})
        until(lambda: logged(server, "page.lua", "flushed: its file is gone") == 2)
        until(lambda: not kept(server, "page.lua"))
        save(server, "page.lua", BROKEN)
        assert at.answers("page.lua") == {"500"}

    def test_is_served_when_a_folder_takes_the_place_of_the_script(self, both: Start) -> None:
        """A folder is no script, and none that is broken."""
        at = both({"page.lua": PAGE.format("good")})
        assert ask(at.one(), at.server, "page.lua")[0] == 200
        (at.server.root / "page.lua").unlink()
        (at.server.root / "page.lua").mkdir()
        until(lambda: at.answers("page.lua") == {"404"})

    def test_is_served_outside_the_root(self, both: Start) -> None:
        """The root becomes another: what was good below the old one is refused by the new processes."""
        at = both({"page.lua": PAGE.format("good"), "in/page.lua": PAGE.format("in")})
        server = at.server
        assert at.answers("page.lua") == {"200 good"}
        save(server, "page.lua", BROKEN)
        until(lambda: logged(server, "page.lua", STAYS) == 2)
        server.config.write_text(server.config.read_text() + '[scripts]\nroot = "lua_scripts/in"\n')
        server.send_signal(signal.SIGHUP)
        server.logged("2 processes running")
        until(lambda: {server.get("page.lua").status for _ in range(20)} == {403})
        assert server.get("in/page.lua").body.startswith(b"in ")

    def test_is_taken_for_the_same_files(self, both: Start) -> None:
        """An `init` that fails for another reason than the files is tried again with each request."""
        page = """
        function init() assert(io.open("database"), "no database") end
        function main(env, con) con:puts("good") end
        """
        at = both({"page.lua": page, "database": ""})
        server = at.server
        assert ask(at.one(), server, "page.lua") == (200, "good")
        (server.root / "database").unlink()
        assert at.answers("page.lua") == {"200 good", "500"}
        (server.root / "database").touch()
        assert at.answers("page.lua") == {"200 good"}
        assert STAYS not in server.log()


def kept(server: Server, name: str) -> list[str]:
    """The files of the version of a script that is kept, as the server's own descriptor has it."""
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        if "memfd:greenfcgi" in os.readlink(descriptor):
            opened = os.open(descriptor, os.O_RDWR)
            try:
                found = VersionStore(opened).get(str(server.root / name))
            finally:
                os.close(opened)
            return [os.path.relpath(path, server.root) for path in found.texts] if found else []
    raise AssertionError("the server keeps no versions")


# The store by itself


def texts(**files: bytes | None) -> dict[str, Text | None]:
    """Files for the store: a name stands for "/name.lua"."""
    known = Texts(1 << 30)
    found: dict[str, Text | None] = {}
    for name, data in files.items():
        found[f"/{name}.lua"] = known.keep(data, digest(data)) if data is not None else None
    return found


def identity(name: str) -> bytes:
    """What identifies a version."""
    return digest(name.encode())


@pytest.fixture
def script(tmp_path: Path) -> str:
    """A script that is there."""
    path = tmp_path / "page.lua"
    path.touch()
    return str(path)


class TestStore:
    def test_what_is_kept_by_one_is_found_by_another(self, script: str) -> None:
        """Another process has the same descriptor and an index of its own."""
        one = VersionStore()
        other = VersionStore(one.descriptor)
        assert other.get(script) is None
        for text in (b"first", b"second"):
            assert one.put(script, texts(page=text, html=b"lib", none=None), identity(text.decode()))
            found = other.get(script)
            assert found is not None
            assert found.texts == {"/page.lua": text, "/html.lua": b"lib", "/none.lua": None}
        other.drop(script)
        assert one.get(script) is None

    def test_files_that_come_later_are_added(self, script: str) -> None:
        """From each process its own; but not to a version that is another one by now."""
        one = VersionStore()
        other = VersionStore(one.descriptor)
        one.put(script, texts(page=b"1"), identity("1"))
        one.put(script, texts(page=b"1", a=b"a"), identity("1"), grown=True)
        other.put(script, texts(page=b"1", b=b"b"), identity("1"), grown=True)
        found = one.get(script)
        assert found is not None
        assert sorted(found.texts) == ["/a.lua", "/b.lua", "/page.lua"]
        other.put(script, texts(page=b"2"), identity("2"))
        one.put(script, texts(page=b"1", a=b"a", c=b"c"), identity("1"), grown=True)
        found = one.get(script)
        assert found is not None
        assert found.texts == {"/page.lua": b"2"}

    def test_files_of_all_processes_stay_when_room_is_made(self, tmp_path: Path) -> None:
        """A version that two processes have read other files of is copied with all of them."""
        one = VersionStore(half=10_000)
        other = VersionStore(one.descriptor, half=10_000)
        path = tmp_path / "page.lua"
        path.touch()
        for number in range(60):
            version = bytes([65 + number])
            one.put(str(path), texts(page=version, a=version * 900), digest(version))
            other.put(str(path), texts(b=version * 1_500), digest(version), grown=True)
            found = one.get(str(path))
            assert found is not None
            assert found.texts == {"/page.lua": version, "/a.lua": version * 900, "/b.lua": version * 1_500}

    def test_a_text_that_many_have_takes_its_place_once(self, tmp_path: Path) -> None:
        """A module of a hundred scripts is written once."""
        store = VersionStore(half=100_000)
        module = b"m" * 50_000
        for number in range(100):
            path = tmp_path / f"{number}.lua"
            path.touch()
            assert store.put(str(path), texts(page=b"%d" % number, module=module), identity(str(number)))
        assert os.fstat(store.descriptor).st_size < 100_000
        found = store.get(str(tmp_path / "0.lua"))
        assert found is not None
        assert found.texts["/module.lua"] == module

    def test_it_is_bounded(self, tmp_path: Path) -> None:
        """What was replaced makes room; what finds none is not kept, and one process is to say so."""
        store = VersionStore(half=100_000)
        other = VersionStore(store.descriptor, half=100_000)
        pages = [str(tmp_path / f"{number}.lua") for number in range(3)]
        for path in pages:
            Path(path).touch()
        for round_ in range(50):
            for number, path in enumerate(pages[:2]):
                assert (other if round_ % 2 else store).put(
                    path, texts(page=bytes([round_ + 1, number]) * 10_000), identity(f"{round_} {number}")
                )
        assert not store.put(pages[2], texts(page=b"x" * 90_000), identity("large"))
        assert [store.is_first_refusal(), other.is_first_refusal()] == [True, False]
        for number, path in enumerate(pages[:2]):
            found = other.get(path)
            assert found is not None
            assert found.texts == {"/page.lua": bytes([50, number]) * 10_000}
        assert store.get(pages[2]) is None
        assert os.fstat(store.descriptor).st_size <= 2 * 100_000 + 4096

    def test_scripts_that_are_gone_make_room(self, tmp_path: Path) -> None:
        """A folder of each release, and all but the last are deleted."""
        store = VersionStore(half=100_000)
        for number in range(20):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "page.lua").touch()
            path = str(folder / "page.lua")
            assert store.put(path, texts(page=bytes([number]) * 30_000), identity(str(number)))
            shutil.rmtree(folder)
        assert store.get(path) is not None

    def test_whatever_is_in_it_raises_nothing(self, script: str) -> None:
        """Bytes of any kind, anywhere in the file: what does not fit is not there, and can be written anew."""
        chance = random.Random(7)
        for _ in range(300):
            store = VersionStore(half=20_000)
            for number in range(3):
                store.put(script, texts(page=b"%d" % number * 300, none=None), identity(str(number)))
            size = os.fstat(store.descriptor).st_size
            for _ in range(chance.randrange(1, 4)):
                at = chance.choice([chance.randrange(0, 60), chance.randrange(4096, size)])
                os.pwrite(store.descriptor, chance.randbytes(chance.randrange(1, 40)), at)
            other = VersionStore(store.descriptor, half=20_000)
            for one in (store, other):
                found = one.get(script)
                assert found is None or found.texts["/page.lua"] in {b"%d" % number * 300 for number in range(3)}
            other.put(script, texts(page=b"new"), identity("new"))
            store.get(script)
            os.close(store.descriptor)

    def test_one_that_dies_while_it_writes_leaves_what_was_there(self, script: str) -> None:
        """Killed between any two system calls, it holds nobody up; the version is the old one or the new one."""
        program = """
            import os, sys
            from greenfcgi.reload import version_store
            from greenfcgi.scripts.file_signature import digest
            from greenfcgi.scripts.texts import Texts
            descriptor, left, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
            real = os.pwrite
            def pwrite(*arguments):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), 9)
                return real(*arguments)
            os.pwrite = pwrite
            store = version_store.VersionStore(descriptor, half=3_000)
            data = b"new" * 300
            store.put(path, {"/page.lua": Texts(10_000).keep(data, digest(data))}, digest(b"new"))
        """
        seen = set()
        for left in range(8):
            store = VersionStore(half=3_000)
            for text in (b"one" * 300, b"old" * 300):
                store.put(script, texts(page=text), digest(text))
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(program), str(store.descriptor), str(left), script],
                pass_fds=[store.descriptor], check=False, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            found = store.get(script)
            assert found is not None
            seen.add(found.texts["/page.lua"])
            assert store.put(script, texts(page=b"after"), identity("after"))
            found = store.get(script)
            assert found is not None
            assert found.texts["/page.lua"] == b"after"
            os.close(store.descriptor)
        assert seen == {b"old" * 300, b"new" * 300}

    def test_one_that_is_stopped_while_it_writes_holds_nobody_up(
        self, script: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others read on, and do without writing."""
        monkeypatch.setattr(version_store, "_TRIES", 2)
        store = VersionStore()
        store.put(script, texts(page=b"old"), identity("old"))
        locks = "import fcntl, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX); print('', flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", locks, str(store.descriptor)],
            pass_fds=[store.descriptor], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as holder:  # fmt: skip
            assert holder.stdout is not None
            assert holder.stdin is not None
            holder.stdout.readline()
            assert not store.put(script, texts(page=b"new"), identity("new"))
            found = store.get(script)
            assert found is not None
            assert found.texts == {"/page.lua": b"old"}
            holder.stdin.close()
        assert store.put(script, texts(page=b"new"), identity("new"))

    def test_systems_without_memory_files(self, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A temporary file without a name does as well."""
        monkeypatch.delattr(os, "memfd_create")
        store = VersionStore()
        assert store.put(script, texts(page=b"1"), identity("1"))
        assert VersionStore(store.descriptor).get(script) is not None


def test_a_script_that_is_gone_for_less_than_a_beat_keeps_its_good_version(tmp_path: Path) -> None:
    """As with editors that delete a file and make it anew: what they make may be broken."""
    inside = Inside(tmp_path)
    store = VersionStore()
    last_good = LastGood(inside.loader.make, store, inside._log, lambda path: None)
    path = inside.write("page.lua", "function main(env, con) con:puts('good') end")
    script = inside._catalogue.find(os.fsencode(path))
    last_good.make(script).close()
    path.unlink()
    last_good.forget(script)
    inside._catalogue.forget(script)
    path.write_text(BROKEN)
    last_good.keep_all([])
    state = last_good.make(inside._catalogue.find(os.fsencode(path)))
    assert Inside.run(state).text == "good"
    path.unlink()
    last_good.forget(script)
    last_good.keep_all([])
    assert store.get(str(path)) is None
    inside.close()


def test_what_finds_no_room_is_told_once(tmp_path: Path) -> None:
    """By the first process that has such a script, for all."""
    inside = Inside(tmp_path)
    store = VersionStore(half=2_000)
    for _ in range(2):
        last_good = LastGood(inside.loader.make, store, inside._log, lambda path: None)
        for name in ("small.lua", "large.lua", "larger.lua"):
            path = inside.write(name, "function main(env, con) end --" + "x" * {"s": 10}.get(name[0], 3_000))
            inside._catalogue.forget(inside._catalogue.find(os.fsencode(path)))
            last_good.make(inside._catalogue.find(os.fsencode(path))).close()
    assert inside.log().count("large.lua: its last good version is not kept for other processes") == 1
    assert inside.log().count("is not kept") == 1
    assert store.get(str(tmp_path / "lua_scripts" / "small.lua")) is not None
    assert store.get(str(tmp_path / "lua_scripts" / "large.lua")) is None
    inside.close()


def test_a_version_is_restored_from_texts_alone(tmp_path: Path) -> None:
    """What it was made of is read as it was, whatever is there now; what was missing stays missing."""
    (tmp_path / "page.lua").write_text("broken")
    (tmp_path / "late.lua").write_text("came later")
    script = Catalogue(str(tmp_path), [".lua"]).find(os.fsencode(tmp_path / "page.lua"))
    version = script.new_version()
    version.restore({script.path: b"good", str(tmp_path / "late.lua"): None})
    assert version.read(script.path) == b"good"
    with pytest.raises(FileNotFoundError):
        version.read(str(tmp_path / "late.lua"))
    assert version.read(str(tmp_path / "late.lua"), fresh=True) == b"came later"
