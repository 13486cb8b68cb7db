"""A server that root has installed where only root may read, as by pipx below /root, and whose `user` is another.

Whatever a module may import later has been imported before: as that user, nothing is looked for any more.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from greenfcgi.modules.configured import _names
from greenfcgi.system import privileges
from greenfcgi.system.privileges import Identity, closed_folder

from ..support import every_module
from ..support.running import Server, until
from ..support.web import web_server

pytestmark = pytest.mark.usefixtures("memory_folders_are_made")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

PACKAGE = Path(every_module.__file__).parents[2] / "greenfcgi"
NOBODY = Identity("nobody", 65534, 65534)
#: The server. What is imported once it is another user is written down.
PROGRAM = """
    import os, sys
    def note(event, arguments):
        if event == "import" and os.geteuid() != 0:
            os.write(report, (arguments[0] + "\\n").encode())
    report = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.addaudithook(note)
    from greenfcgi.cli import main
    sys.exit(main([sys.argv[1]]))
"""
#: A module of a user's own, which imports nothing but the server's.
OWN = """
    import greenfcgi

    @greenfcgi.export(blocking=True)
    def answer():
        return b"ok"

    @greenfcgi.export
    def fail(number):
        return [number][0] / 0
"""
OWN_SCRIPT = """
    local own = require "own"
    assert(own.answer() == "ok")
    assert(tostring(select(2, pcall(own.fail, 1))):find("zero", 1, true))
"""
#: What runs before the process becomes another user, or never does.
BEFORE = re.compile(
    r"(cli|command_line|completion|ping|preflight)$|(config|deploy|dev|imports)\."
    r"|processes\.(open_logs|server_process|standalone|supervisor)$|modules\.shared\.stores$"
    r"|reload\.inotify$|system\.(privileges|portable\.descriptors)$"
)
SETTINGS = """
    log_format = "json"
    status_path = "/status"
    [scripts]
    max_post = "4M"
    [lua]
    allow = ["os.execute", "io.popen"]
    [[tasks]]
    script = "json.lua"
    cron = "* * * * *"
    [[tasks]]
    script = "url.lua"
    every = 1
    [modules]
    own = "own"
    [shared]
    things = "1M"
"""
BARE = """
    processes = 0
    user = "nobody"
    [modules]
    own = "own"
"""


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment for Python in which all that it imports is below a folder of mode 0700."""
    return closed_environment(tmp_path_factory.mktemp("closed"), lambda name: True)


def closed_environment(folder: Path, is_wanted: Callable[[str], bool]) -> dict[str, str]:
    """The same, with the packages that are wanted."""
    packages = folder / "packages"
    packages.mkdir()
    (packages / "greenfcgi").symlink_to(PACKAGE)
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for one in Path(place).iterdir():
            if is_wanted(one.name) and not (packages / one.name).exists():
                (packages / one.name).symlink_to(one)
    library = Path(os.__file__).parent
    home = folder / "home"
    (home / sys.platlibdir).mkdir(parents=True)
    (home / sys.platlibdir / library.name).symlink_to(library)
    folder.chmod(0o700)
    return {**os.environ, "PYTHONHOME": str(home), "PYTHONPATH": str(packages)}


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that others may read, with the certificate of localhost, which is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out ca.pem -days 2 "
            "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        )
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, timeout=60)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def scripts(public: Path) -> Iterator[Mapping[str, str]]:
    """Those that use all modules; the servers that they ask run."""
    with web_server() as plain, web_server(public / "ca.pem", public / "key.pem") as encrypted:
        yield every_module.scripts(
            f"http://127.0.0.1:{plain}/hello", f"https://localhost:{encrypted}/hello", str(public / "ca.pem")
        )


def test_all_that_is_shipped_is_used(scripts: Mapping[str, str]) -> None:
    """By the scripts of these tests."""
    used = set(re.findall(r"""require[ (]+["']([\w.]+)["']""", " ".join(scripts.values())))
    assert used == set(_names())


@needs_root
@pytest.mark.parametrize(("lua", "processes"), [pytest.param("luajit21", 0, marks=pytest.mark.pythons), ("lua54", 2)])
def test_every_module_works(
    public: Path, closed: dict[str, str], scripts: Mapping[str, str], lua: str, processes: int
) -> None:
    """Of those that come with the server, and those of a user's own; also after a reload."""
    folder = public / lua
    settings = f'processes = {processes}\nuser = "nobody"\n' + textwrap.dedent(SETTINGS)
    settings = settings.replace("[lua]", f'[lua]\nversion = "{lua}"')
    server = Server(folder, {**scripts, "own.lua": every_module.script(OWN_SCRIPT)}, settings)
    (folder / "own.py").write_text(textwrap.dedent(OWN))
    for path in (folder, server.root):
        os.chown(path, NOBODY.uid, NOBODY.gid)
    report = start(server, closed)
    with server:
        assert server.log().count("may not read") == 1
        cookies = ""
        for turn in range(1, 3):
            for name in [*scripts, "own.lua"]:
                body = every_module.FORM if name == "form.lua" else b""
                reply = server.get(name, body, CONTENT_TYPE=every_module.FORM_TYPE, HTTP_COOKIE=cookies)
                assert reply.status == 200, server.log()[-2000:]
                if name == "session.lua":
                    assert reply.body == b"%d " % turn * 4 + b"ok"
                    cookies = "; ".join(cookie.partition(";")[0] for cookie in reply.head["set-cookie"])
            for form in ("", "json", "html", "openmetrics"):
                assert server.get("status", QUERY_STRING=form, SCRIPT_NAME="/status").status == 200
            if processes and turn == 1:
                server.send_signal(signal.SIGHUP)
                server.logged("configuration reloaded")
        assert server.stop() == 0
    assert late(report) == set()


@needs_root
@pytest.mark.pythons
def test_nothing_is_missing_without_extras(public: Path, tmp_path: Path, scripts: Mapping[str, str]) -> None:
    """They import much of Python's own library: without them, too, nothing of that is looked for later."""
    needed = re.compile(r"gevent|greenlet|lupa|inotify_simple|zope")
    server = Server(public / "bare", {**scripts, "own.lua": every_module.script(OWN_SCRIPT)}, BARE)
    (server.folder / "own.py").write_text(textwrap.dedent(OWN))
    report = start(server, closed_environment(tmp_path, lambda name: needed.match(name) is not None))
    with server:
        for name in scripts:
            server.get(name)
        assert server.get("own.lua").body == b"ok"
        log = server.logged("return [number][0] / 0")
        assert "ZeroDivisionError" in log
        assert "h11 is not installed: pip install 'greenfcgi[http]'" in log
        assert server.stop() == 0
    # Without `ast`, tracebacks have no marks below a line.
    assert {name for name in late(report) if name.partition(".")[0] in sys.stdlib_module_names} <= {"ast"}


def start(server: Server, environment: dict[str, str]) -> Path:
    """Start it in this environment. Returns the file with the names of what is imported late."""
    report = server.folder / "report"
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(
            [sys.executable, "-S", "-c", textwrap.dedent(PROGRAM), str(server.config), str(report)], stdout=log,
            stderr=log, env=environment, cwd=server.folder,
        )  # fmt: skip
    until(lambda: " serves " in server.log() or server.has_ended())
    assert not server.has_ended(), server.log()
    return report


def late(report: Path) -> set[str]:
    """What was imported late, of what there is: some modules are only in some Pythons."""
    return {name for name in report.read_text().split() if find_spec(name) is not None}


@needs_root
def test_a_check_says_it(public: Path, closed: dict[str, str]) -> None:
    """In one line, which is no mistake."""
    server = Server(public / "check", {}, 'user = "nobody"\n')
    command = [sys.executable, "-S", "-m", "greenfcgi", "--check-config", str(server.config)]
    checked = subprocess.run(command, env=closed, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0
    assert re.fullmatch(r'greenfcgi: user "nobody" may not read "/.*", .*\n', checked.stderr)
    assert "OK" in checked.stdout


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o711, 0o744, 0o700])
def test_whose_folder_it_is(public: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is closed where that user may not list it, or may not open what is in it; one above is enough."""
    outer = public / f"{mode:o}"
    inner = outer / "packages"
    inner.mkdir(parents=True)
    outer.chmod(mode)

    def folders() -> Iterator[str]:
        # That user may not find them.
        assert os.geteuid() == 0
        yield from (str(public), str(inner), str(outer))

    monkeypatch.setattr(privileges, "_own_folders", folders)
    found = closed_folder(NOBODY)
    assert found == {0o755: "", 0o711: str(outer)}.get(mode, str(inner))
    assert os.geteuid() == 0
    assert closed_folder(Identity("root", 0, 0)) == ""
    assert closed_folder(Identity("", -1, -1)) == ""
    os.chown(outer, NOBODY.uid, NOBODY.gid)
    assert closed_folder(NOBODY) == ""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, set[str]]:
    """What a process has imported when it becomes another user, where files are closed and where not."""
    source = """
        import sys
        from greenfcgi.config.load import load
        from greenfcgi.system.gevent_import import import_gevent
        import_gevent()
        from greenfcgi.processes import server_process
        from greenfcgi.modules.shared.stores import _import_for
        config = load(sys.argv[1])
        is_closed = sys.argv[2] == "True"
        if is_closed:
            _import_for(config.shared)
        server_process._import_all(config, is_closed)
        print(*sys.modules)
    """
    folder = tmp_path_factory.mktemp("imported")
    config = folder / "config.toml"
    (folder / "lua_scripts").mkdir()
    config.write_text(textwrap.dedent(SETTINGS) + 'url = "rediss://localhost"\n')
    command = [sys.executable, "-c", textwrap.dedent(source), str(config)]
    return {
        is_closed: set(subprocess.check_output([*command, str(is_closed)], text=True, cwd=PACKAGE.parent).split())
        for is_closed in (True, False)
    }


@pytest.mark.pythons
def test_all_imports_in_functions_are_known(imported: Mapping[bool, set[str]]) -> None:
    """Also those that no script here comes to: each is of a module that has been imported by then."""
    missing = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not BEFORE.match(module):
            for name in imports_in_functions(path):
                if name not in imported[True] and find_spec(name) is not None:
                    missing.add(f"{module}: {name}")
    assert missing == set()


def test_nothing_of_it_is_loaded_where_files_can_be_read(imported: Mapping[bool, set[str]]) -> None:
    """What scripts may require is then loaded when they do."""
    late = {"ssl", "h11", "sqlite3", "psycopg", "pymysql", "argon2", "cryptography", "multipart"}
    late |= {f"greenfcgi.modules.{name}" for name in ("http.http", "sql.sql", "text.crypto", "web.form")}
    assert late & imported[False] == set()
    assert {name for name in late if find_spec(name) is not None} <= imported[True]


def imports_in_functions(path: Path) -> Iterator[str]:
    """The whole names of modules that the functions of a module of the package import."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                name = ".".join([*above, *([node.module] if node.module else [])])
                if node.level and node.module is None:
                    # `from . import page`
                    yield from (f"{name}.{alias.name}" for alias in node.names)
                else:
                    yield name
