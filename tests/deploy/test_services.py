"""What `--init` makes for service managers, checked by their own tools, and logrotate with a server that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.programs import program
from ..support.running import Server, until
from .test_init import init


def made(folder: Path, target: str, config: str = "") -> Path:
    """The folder with the files of a target."""
    done = init(folder, target, "--write", "made", config=config)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "made"


class TestSystemd:
    def test_units_are_right(self, tmp_path: Path) -> None:
        """systemd-analyze verify has nothing to say."""
        analyze = program("systemd-analyze")
        folder = made(tmp_path, "systemd", 'bind = ["unix:/run/greenfcgi.sock", "127.0.0.1:9000"]')
        units = sorted(str(path) for path in folder.iterdir())
        assert len(units) == 4
        done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, timeout=60)
        about_ours = [line for line in done.stderr.splitlines() if "greenfcgi" in line]
        assert (done.returncode, about_ours) == (0, [])

    @pytest.mark.parametrize("unit", ["greenfcgi.service", "greenfcgi@.service"])
    def test_the_sandbox(self, unit: str, tmp_path: Path) -> None:
        """The exposure level is under 3."""
        path = made(tmp_path, "systemd") / unit
        command = [program("systemd-analyze"), "security", "--offline=true", "--threshold=29", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "Overall exposure level" in done.stdout
        assert done.returncode == 0, done.stdout

    def test_sockets_are_those_of_bind(self, tmp_path: Path) -> None:
        """Each address of bind, with the mode and the queue that the configuration says."""
        config = 'bind = ["unix:s.sock", "127.0.0.1:9000", "[::1]:9000"]\nsocket_mode = "0666"\nbacklog = 99'
        text = (made(tmp_path, "systemd", config) / "greenfcgi.socket").read_text().splitlines()
        streams = [line for line in text if line.startswith("ListenStream=")]
        assert streams == [f"ListenStream={tmp_path}/s.sock", "ListenStream=127.0.0.1:9000", "ListenStream=[::1]:9000"]
        assert {"SocketMode=0666", "Backlog=99"} <= set(text)

    def test_names_with_spaces(self, tmp_path: Path) -> None:
        """systemd gives the program the configuration as one argument."""
        folder = tmp_path / "my site"
        folder.mkdir()
        unit = (made(folder, "systemd") / "greenfcgi.service").read_text()
        assert f'\nExecStart={sys.executable} -m greenfcgi "{folder}/config.toml"\n' in unit

    def test_who_runs_it(self, tmp_path: Path) -> None:
        """The user of the configuration; what lies beside the configuration can be written to."""
        text = (made(tmp_path, "systemd", 'user = "daemon"\ngroup = "daemon"') / "greenfcgi.service").read_text()
        lines = text.splitlines()
        assert {"User=daemon", "Group=daemon", f'ReadWritePaths="{tmp_path}"', "Type=notify"} <= set(lines)

    @pytest.mark.parametrize("unit", ["greenfcgi.service", "greenfcgi@.service"])
    def test_sockets_outlive_the_service(self, unit: str, tmp_path: Path) -> None:
        """systemd removes RuntimeDirectory when a service stops, with the socket of greenfcgi.socket in it."""
        config = 'bind = "unix:/run/greenfcgi/s.sock"'
        assert "RuntimeDirectoryPreserve=yes" in (made(tmp_path, "systemd", config) / unit).read_text().splitlines()


@pytest.mark.parametrize("target", ["openrc", "freebsd"])
@pytest.mark.parametrize("config", ["", 'bind = "unix:/run/greenfcgi/s.sock"\nuser = "daemon"'])
def test_scripts_of_services(target: str, config: str, tmp_path: Path) -> None:
    """shellcheck has nothing to say."""
    script = made(tmp_path, target, config) / "greenfcgi"
    done = subprocess.run([program("shellcheck"), "-s", "sh", str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


#: What rc.subr and openrc-run have, as far as these scripts need it: each says what it is asked to make.
_STUBS = """
load_rc_config() { :; }
run_rc_command() { greenfcgi_prestart; }
install() { echo "$@"; }
checkpath() { echo "$@"; }
su() { echo su "$@"; }
"""


@pytest.mark.parametrize("target", ["openrc", "freebsd"])
def test_what_services_make(target: str, tmp_path: Path) -> None:
    """The folder of the socket where it is missing, never another's; the pid file, since daemon(8) is no more than a
    user either.
    """
    (tmp_path / "there").mkdir()
    for folder, is_missing in (("missing", True), ("there", False)):
        place = tmp_path / f"{folder}-files"
        place.mkdir()
        text = (made(place, target, f'bind = "unix:{tmp_path}/{folder}/s.sock"') / "greenfcgi").read_text()
        text = text.replace(". /etc/rc.subr\n", _STUBS)
        script = text if target == "freebsd" else f"{_STUBS}\n{text}\nstart_pre\n"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60)
        assert (f"{tmp_path}/{folder}\n" in done.stdout) == is_missing
        # What the server's user may not do is no mistake to root.
        user = "-m www -c" if target == "freebsd" else "-s /bin/sh nobody -c"
        assert f"su {user} " in done.stdout
        assert " --check-config " in done.stdout.partition("su -")[2]
        assert target != "freebsd" or "-o www -m 644 /dev/null /var/run/greenfcgi.pid\n" in done.stdout


@pytest.mark.parametrize("target", ["openrc", "freebsd"])
def test_a_socket_that_the_user_cannot_make(target: str, tmp_path: Path) -> None:
    """/run is root's, and is not given to anybody else."""
    done = init(tmp_path, target, config='bind = "unix:/run/greenfcgi.sock"')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        'greenfcgi: --init: found bind = "unix:/run/greenfcgi.sock", expected a folder of its own, such as '
        '"unix:/run/greenfcgi/greenfcgi.sock"\n'
    )


def test_a_service_of_freebsd_with_spaces_in_names(tmp_path: Path) -> None:
    """rc.subr puts a command together by eval: the configuration stays one argument."""
    folder = tmp_path / "my site"
    folder.mkdir()
    script = (made(folder, "freebsd") / "greenfcgi").read_text()
    (tmp_path / "rc.subr").write_text("""
load_rc_config() { :; }
run_rc_command() { eval "set -- $command_args"; printf '%s\\n' "$@"; }
""")
    (tmp_path / "rc").write_text(script.replace("/etc/rc.subr", str(tmp_path / "rc.subr")))
    done = subprocess.run(["sh", str(tmp_path / "rc"), "start"], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == f"{folder}/config.toml", done


def test_logs_are_rotated(tmp_path: Path) -> None:
    """After logrotate, the server writes into new files, and not into those that were renamed."""
    logrotate = program("logrotate")
    settings = 'accesslog = "access.log"\npidfile = "server.pid"\nprocesses = 1\n'
    with Server(tmp_path, {"hello.lua": "function main(env, con) con:puts('hello') end"}, settings) as server:
        script = init(tmp_path, "logrotate", config=server.config.read_text())
        assert script.returncode == 0, script.stderr
        (tmp_path / "rotate.conf").write_text(f"su {_user()} {_group()}\n{script.stdout}")
        os.chmod(tmp_path / "rotate.conf", 0o644)
        os.chmod(tmp_path, 0o755)
        access = tmp_path / "access.log"
        assert server.get("hello.lua").body == b"hello"
        until(lambda: access.stat().st_size)
        before = access.stat().st_ino
        command = [logrotate, "--force", "--state", str(tmp_path / "state"), str(tmp_path / "rotate.conf")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        until(lambda: access.exists() and access.stat().st_ino != before, "a new access log")
        assert server.get("hello.lua?new").body == b"hello"
        until(lambda: "?new" in access.read_text(), "the request in the new log")
        assert "?new" not in (tmp_path / "access.log.1").read_text()
        assert server.stop(signal.SIGTERM) == 0


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _group() -> str:
    import grp

    return grp.getgrgid(os.getegid()).gr_name


def test_the_image_has_what_it_needs(tmp_path: Path) -> None:
    """Two stages, no compiler in the second, nobody's, with a health check; data stays out of it."""
    folder = made(tmp_path, "docker")
    text = (folder / "Dockerfile").read_text()
    build, image = text.split("FROM python:3.13-slim\n")
    assert "gcc" in build
    assert "gcc" not in image
    for line in ("COPY --from=build /opt/greenfcgi /opt/greenfcgi", "USER nobody", "VOLUME /site/data", "HEALTHCHECK "):
        assert f"\n{line}" in f"\n{image}"
    assert "data" in (folder / "Dockerfile.dockerignore").read_text().splitlines()
