"""nginx: its program, a free port, and a configuration for one worker without an access log.

Everything that it writes stays in a folder of its own; it listens on the loopback. The bodies of requests and of
replies stay in its memory.
"""

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from .errors import NotInstalled

_MAIN = """{modules}
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type text/plain;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/client_body;
  fastcgi_temp_path {folder}/fastcgi;
  proxy_temp_path {folder}/proxy;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  fastcgi_buffers 16 16k;
  fastcgi_max_temp_file_size 0;
  fastcgi_read_timeout 60;
  client_max_body_size 2m;
  client_body_buffer_size 2m;
{upstreams}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
{server}
  }}
}}
"""


def nginx_program() -> str:
    """Raises `NotInstalled` when there is none."""
    found = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if not found:
        raise NotInstalled("nginx is not installed: apt-get install nginx-light")
    return found


def nginx_command(
    folder: Path, port: int, server: Sequence[str], upstreams: Sequence[str] = (), modules: Sequence[Path] = ()
) -> list[str]:
    """Write the configuration into `folder`, and return the command that stays in the foreground.

    `server` is what stands in the one server block, `upstreams` before it, and `modules` are loaded. Raises
    `NotInstalled`.
    """
    # Run by root, nginx's worker would become nobody, who may not open the servers' sockets.
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        _MAIN.format(
            modules="\n".join(f"load_module {module};" for module in modules),
            folder=folder,
            port=port,
            user=user,
            upstreams="\n".join(upstreams),
            server="\n".join(server),
        )
    )
    return [nginx_program(), "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(config)]


def free_port() -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
