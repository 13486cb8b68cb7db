"""Every setting of config.toml, once: name, type, unit, range, default and reason stand beside each other.

The checks, the messages, the printed configuration and the list of settings in the README derive from these
tables. What a value must look like is in `kinds`; reading files and wording errors is `config`'s.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple

from . import types

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_GUNICORN = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'


class Setting(NamedTuple):
    """What is to be known about a setting beside its name. The default is written as in config.toml."""

    value_type: types.ValueType
    default: object
    reason: str


class Scripts(NamedTuple):
    """[scripts]: which files are scripts, and what every response starts from."""

    root: Annotated[str, Setting(types.ROOT, "lua_scripts", "Nothing outside this directory runs.")]
    extensions: Annotated[
        tuple[str, ...],
        Setting(types.list_of(types.EXTENSION, min_length=1), [".lua"], "Files that end otherwise are not run."),
    ]
    public: Annotated[
        str,
        Setting(types.FOLDER_BELOW, "public", "Static files, below the root: for web servers and --dev; never run."),
    ]
    handler: Annotated[str, Setting(types.IDENTIFIER, "main", "The function that answers a request.")]
    show_errors: Annotated[bool, Setting(types.FLAG, False, "The Lua error in the response; never in production.")]
    headers: Annotated[tuple[str, ...], Setting(types.list_of(types.HEADER), [], "Added to every response.")]
    http_status: Annotated[str, Setting(types.STATUS, "200 OK", "Sent when the script sets no status.")]
    content_type: Annotated[str, Setting(types.ONE_LINE, "text/html", "Sent when the script sets no Content-Type.")]
    buffering: Annotated[bool, Setting(types.FLAG, True, "Output waits for the end or con:flush(): fewer sends.")]
    max_post: Annotated[int, Setting(types.size(0, "0"), "1M", "A larger request body is answered with 413, unread.")]
    startup: Annotated[
        str, Setting(types.STARTUP, "", "A script that each new Lua state runs first; one that fails stops the start.")
    ]
    authorizer: Annotated[str, Setting(types.ANY_TEXT, "", "A script below root for the FastCGI role AUTHORIZER.")]
    stderr: Annotated[bool, Setting(types.FLAG, False, "Errors of scripts go to the web server's log as well.")]


class Lua(NamedTuple):
    """[lua]: which Lua runs the scripts, and what a state gets."""

    version: Annotated[
        str, Setting(types.VERSION, "auto", "The best that lupa has: luajit21 where there is LuaJIT, else lua51.")
    ]
    jit: Annotated[bool, Setting(types.FLAG, False, "Faster loops on LuaJIT, but nothing can interrupt compiled code.")]
    memory: Annotated[
        int, Setting(types.size(2**20, "1M"), "32M", "Of one state, so that no script takes all there is.")
    ]
    path: Annotated[
        tuple[str, ...], Setting(types.list_of(types.DIRECTORY), [], "For require, beside the script's own directory.")
    ]
    cpath: Annotated[
        tuple[str, ...], Setting(types.list_of(types.DIRECTORY), [], "For require of modules written in C.")
    ]
    time_slice: Annotated[
        float, Setting(types.seconds(0.001), 0.01, "CPU time after which a script lets others have a turn.")
    ]
    allow: Annotated[
        tuple[str, ...], Setting(types.list_of(types.REACH), [], "What scripts may use of what else is closed to them.")
    ]


class States(NamedTuple):
    """[states]: how many Lua states a process holds."""

    max: Annotated[
        int, Setting(types.integer(1), 256, "A running request holds a state, so at least as many as workers.")
    ]
    clones: Annotated[int, Setting(types.integer(1), 128, "States that may hold the same script; made on demand only.")]
    max_requests: Annotated[int, Setting(types.integer(0), 0, "A state is renewed after so many requests; 0 is never.")]
    idle: Annotated[
        float, Setting(types.seconds(0), 300, "A state unused so long goes, but a script's last one; 0 is never.")
    ]
    per_request: Annotated[bool, Setting(types.FLAG, False, "A fresh state for each request: nothing persists.")]


class Config(NamedTuple):
    """The whole configuration: the settings before the first table, then the tables."""

    bind: Annotated[
        tuple[types.Address, ...],
        Setting(
            types.list_of(types.ADDRESS, min_length=1, or_one=True), "127.0.0.1:9000", "Where web servers connect."
        ),
    ]
    backlog: Annotated[int, Setting(types.integer(1), 2048, "Connections that may wait to be accepted.")]
    processes: Annotated[
        int, Setting(types.integer(0), 1, "Share the listener under a supervisor; 0: one process without one.")
    ]
    workers: Annotated[
        int, Setting(types.integer(1), 128, "Requests that run at once in each process, each in its own greenlet.")
    ]
    queue: Annotated[int, Setting(types.integer(0), 1024, "Requests that may wait for a worker; more get 503.")]
    buffers: Annotated[
        int, Setting(types.size(2**20, "1M"), "64M", "Memory for requests that come in and replies that wait to leave.")
    ]
    timeout: Annotated[float, Setting(types.seconds(0.1), 30, "How long a request may run; past it, 504.")]
    graceful_timeout: Annotated[float, Setting(types.seconds(0), 30, "How long a stop waits for running requests.")]
    keepalive: Annotated[float, Setting(types.seconds(0), 75, "How long a kept connection may be idle.")]
    heartbeat: Annotated[float, Setting(types.seconds(0.01), 1.0, "Between two rounds of housekeeping.")]
    allowed_clients: Annotated[
        "tuple[IPv4Network | IPv6Network, ...]",
        Setting(types.list_of(types.NETWORK), [], "May connect by TCP beside the loopback; FastCGI has no password."),
    ]
    socket_mode: Annotated[int, Setting(types.MODE, "0660", "Who may connect to a unix socket: its owner and group.")]
    user: Annotated[str, Setting(types.USER, "", "Who runs scripts, when started as root.")]
    group: Annotated[str, Setting(types.GROUP, "", "The same for the group; else it is the user's own.")]
    pidfile: Annotated[str, Setting(types.OPTIONAL_PATH, "", "Holds the process id while the server runs.")]
    loglevel: Annotated[str, Setting(types.LEVEL, "info", "The least that the error log tells.")]
    errorlog: Annotated[str, Setting(types.ERROR_LOG, "-", "Where errors and notices go.")]
    accesslog: Annotated[str, Setting(types.ACCESS_LOG, "", "One line for each request; web servers write their own.")]
    access_log_format: Annotated[str, Setting(types.ANY_TEXT, _GUNICORN, "A line of it, in gunicorn's letters.")]
    log_format: Annotated[
        str, Setting(types.LOG_FORMAT, "text", "With json, each line of every log is one JSON object.")
    ]
    slowlog: Annotated[str, Setting(types.SLOW_LOG, "", "Where scripts that take long are told, with a traceback.")]
    slowlog_timeout: Annotated[float, Setting(types.seconds(0.01), 5, "What takes long.")]
    status_path: Annotated[str, Setting(types.URL_PATH, "", "Such as /status: what the server does, in figures.")]
    ping_path: Annotated[str, Setting(types.URL_PATH, "", "Such as /ping: answered with pong, for health checks.")]
    reload: Annotated[bool, Setting(types.FLAG, True, "A modified script is loaded anew for the next request.")]
    reload_engine: Annotated[
        str, Setting(types.ENGINE, "auto", "How changes are noticed; auto polls where inotify fails.")
    ]
    poll_interval: Annotated[float, Setting(types.seconds(0.01), 1.0, "Between two looks at the files when polling.")]
    scripts: Scripts
    lua: Lua
    states: States
    modules: Annotated[
        "Mapping[str, types.PythonModule]",
        Setting(types.MODULES, {}, "For require: modules written in Python, such as mailer = \"mysite.mailer\"."),
    ]
    app: Annotated[Mapping[str, object], Setting(types.ANY_TABLE, {}, "Free: scripts read it with con:config(name).")]
