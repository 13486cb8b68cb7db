"""Every setting of config.toml, once: name, type, unit, range, default and reason stand beside each other.

The checks, the messages, the printed configuration and the list of settings in the documentation derive from these
tables. What a value must look like is in `types`; reading files and wording errors is in `load`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from . import types
from .address import ADDRESS, Address
from .apps import APPS, App
from .shared import SHARED, Shared
from .value_type import ValueType

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_GUNICORN = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'


class Setting(NamedTuple):
    """A setting but for its name; the default is written as in config.toml."""

    value_type: ValueType
    default: object
    reason: str


class Scripts(NamedTuple):
    """[scripts]: which files are scripts, and what every response starts from."""

    root: Annotated[str, Setting(types.ROOT, "lua_scripts", "Folder of the scripts; nothing outside it runs.")]
    extensions: Annotated[
        tuple[str, ...],
        Setting(types.list_of(types.EXTENSION, min_length=1), [".lua"], "Endings of the files that are scripts."),
    ]
    public: Annotated[
        str,
        Setting(
            types.FOLDER_BELOW, "public", "Folder of static files below root, for web servers and --dev; never run."
        ),
    ]
    index: Annotated[  # type: ignore[assignment]
        str, Setting(types.FILE_NAME, "index.lua", 'The script that answers for its folder; "" for none.')
    ]
    front: Annotated[
        str, Setting(types.ANY_TEXT, "", "A script below root that answers for whatever is no script and no folder's.")
    ]
    handler: Annotated[str, Setting(types.IDENTIFIER, "main", "The function that answers a request.")]
    show_errors: Annotated[bool, Setting(types.FLAG, False, "The Lua error in the response; never in production.")]
    headers: Annotated[tuple[str, ...], Setting(types.list_of(types.HEADER), [], "Headers added to every response.")]
    http_status: Annotated[str, Setting(types.STATUS, "200 OK", "Sent when the script sets no status.")]
    content_type: Annotated[str, Setting(types.ONE_LINE, "text/html", "Sent when the script sets no Content-Type.")]
    buffering: Annotated[
        bool, Setting(types.FLAG, True, "Output is sent at the end or at con:flush(), in fewer sends.")
    ]
    max_post: Annotated[int, Setting(types.size(0, "0"), "1M", "A larger request body is answered with 413, unread.")]
    startup: Annotated[
        str,
        Setting(
            types.STARTUP, "", "A file that each new Lua state runs first; if it fails, the server does not start."
        ),
    ]
    authorizer: Annotated[str, Setting(types.ANY_TEXT, "", "A script below root for the FastCGI role AUTHORIZER.")]
    stderr: Annotated[bool, Setting(types.FLAG, False, "Errors of scripts also go to the web server's log.")]


class Lua(NamedTuple):
    """[lua]: which Lua runs the scripts, and what a state gets."""

    version: Annotated[
        str, Setting(types.VERSION, "auto", "The best that lupa has: luajit21 where there is LuaJIT, else lua51.")
    ]
    jit: Annotated[bool, Setting(types.FLAG, False, "Faster loops on LuaJIT, but nothing can interrupt compiled code.")]
    memory: Annotated[
        int, Setting(types.size(2**20, "1M"), "32M", "Limit for each Lua state, so that no script takes all there is.")
    ]
    path: Annotated[
        tuple[str, ...],
        Setting(types.list_of(types.DIRECTORY), [], "Folders where require looks, after the script's own."),
    ]
    cpath: Annotated[
        tuple[str, ...],
        Setting(
            types.list_of(types.NATIVE_FOLDER), [], 'The same for modules in C; "system": where packages put them.'
        ),
    ]
    time_slice: Annotated[
        float, Setting(types.seconds(0.001), 0.01, "Seconds of CPU after which a script gives way to others.")
    ]
    allow: Annotated[
        tuple[str, ...], Setting(types.list_of(types.REACH), [], "Functions to unlock that are closed by default.")
    ]


class States(NamedTuple):
    """[states]: how many Lua states a process holds."""

    max: Annotated[
        int,
        Setting(types.integer(1), 256, "Lua states in a process; each running request holds one, so at least workers."),
    ]
    clones: Annotated[int, Setting(types.integer(1), 128, "States with the same script, at most; made on demand only.")]
    max_requests: Annotated[
        int, Setting(types.integer(0), 0, "Requests after which a state is replaced by a fresh one; 0: never.")
    ]
    idle: Annotated[
        float,
        Setting(
            types.seconds(0), 300, "Seconds after which an unused state is closed, but a script's last one; 0: never."
        ),
    ]
    per_request: Annotated[bool, Setting(types.FLAG, False, "Each request gets a fresh state: nothing persists.")]


class Config(NamedTuple):
    """The whole configuration: the settings before the first table, then the tables."""

    bind: Annotated[
        tuple[Address, ...],
        Setting(types.list_of(ADDRESS, min_length=1, or_one=True), "127.0.0.1:9000", "Where web servers connect."),
    ]
    backlog: Annotated[int, Setting(types.integer(1), 2048, "Length of the kernel's queue of connections to accept.")]
    processes: Annotated[
        int,
        Setting(types.integer(0), 1, "Processes under a supervisor, gunicorn's workers; 0: a single one without it."),
    ]
    workers: Annotated[
        int, Setting(types.integer(1), 128, "Greenlets, not processes: how many requests each process runs at a time.")
    ]
    queue: Annotated[
        int, Setting(types.integer(0), 1024, "Requests that may wait for a worker; more are answered with 503.")
    ]
    buffers: Annotated[
        int,
        Setting(types.size(2**20, "1M"), "64M", "Memory for incoming requests and for replies that wait to be sent."),
    ]
    timeout: Annotated[
        float, Setting(types.seconds(0.1), 30, "Seconds that a request may run; then it is answered with 504.")
    ]
    after_timeout: Annotated[
        float,
        Setting(types.seconds(0.1), 300, "Seconds that a script may go on after con:finish() has sent its reply."),
    ]
    graceful_timeout: Annotated[float, Setting(types.seconds(0), 30, "Seconds that a stop waits for running requests.")]
    keepalive: Annotated[float, Setting(types.seconds(0), 75, "Seconds that a kept connection may be idle.")]
    heartbeat: Annotated[float, Setting(types.seconds(0.01), 1.0, "Seconds between two rounds of housekeeping.")]
    allowed_clients: Annotated[
        "tuple[IPv4Network | IPv6Network, ...]",
        Setting(
            types.list_of(types.NETWORK),
            [],
            "Networks that may connect by TCP beside the loopback: FastCGI has no password.",
        ),
    ]
    socket_mode: Annotated[
        int, Setting(types.MODE, "0660", "Permissions of a unix socket: its owner and group may connect.")
    ]
    user: Annotated[str, Setting(types.USER, "", "User who runs the scripts, when started as root.")]
    group: Annotated[str, Setting(types.GROUP, "", "Group of the scripts' processes; empty: the user's own.")]
    pidfile: Annotated[str, Setting(types.OPTIONAL_PATH, "", "File that holds the process id while the server runs.")]
    loglevel: Annotated[str, Setting(types.LEVEL, "info", "Lowest severity written to the error log.")]
    errorlog: Annotated[str, Setting(types.ERROR_LOG, "-", "File for errors and notices, or - for stderr.")]
    accesslog: Annotated[
        str, Setting(types.ACCESS_LOG, "", "File with a line for each request; web servers write their own.")
    ]
    access_log_format: Annotated[
        str, Setting(types.ANY_TEXT, _GUNICORN, "Format of a line, as gunicorn's access_log_format.")
    ]
    log_format: Annotated[
        str, Setting(types.LOG_FORMAT, "text", "With json, each line of every log is one JSON object.")
    ]
    slowlog: Annotated[str, Setting(types.SLOW_LOG, "", "Log of slow requests, with a Lua traceback.")]
    slowlog_timeout: Annotated[float, Setting(types.seconds(0.01), 5, "Seconds after which a request is slow.")]
    status_path: Annotated[
        str, Setting(types.URL_PATH, "", "URL such as /status that answers with the server's figures.")
    ]
    ping_path: Annotated[
        str, Setting(types.URL_PATH, "", "URL such as /ping that answers with pong, for health checks.")
    ]
    reload: Annotated[bool, Setting(types.FLAG, True, "Reload a modified script for the next request.")]
    reload_engine: Annotated[
        str, Setting(types.ENGINE, "auto", "How changes are noticed; auto polls where inotify fails.")
    ]
    poll_interval: Annotated[
        float, Setting(types.seconds(0.01), 1.0, "Seconds between two looks at the files when polling.")
    ]
    scripts: Scripts
    lua: Lua
    states: States
    modules: Annotated[
        "Mapping[str, types.PythonModule]",
        Setting(types.MODULES, {}, 'For require: modules written in Python, such as mailer = "mysite.mailer".'),
    ]
    shared: Annotated[
        Shared, Setting(SHARED, {}, 'Dictionaries for all states and processes, with their sizes: sessions = "16M".')
    ]
    tasks: Annotated[
        "tuple[types.Task, ...]",
        Setting(types.TASKS, [], 'Scripts that run by the clock, with every = "10m" or cron = "0 3 * * *".'),
    ]
    apps: Annotated[
        Mapping[str, App],
        Setting(APPS, {}, 'Programs by their paths, such as "/shop" = { wsapi = "shop" }.'),
    ]
    app: Annotated[Mapping[str, object], Setting(types.ANY_TABLE, {}, "Free: scripts read it with con:config(name).")]
    #: Where the file lies, to which paths are relative. No setting.
    folder: str


#: Tables with settings of their own.
TABLES: Final[Mapping[str, type]] = {"scripts": Scripts, "lua": Lua, "states": States}
#: Tables whose keys are free.
FREE_TABLES: Final = ("modules", "shared", "tasks", "apps", "app")


def settings_of(table: type) -> dict[str, Setting]:
    """The settings of Config or of one of its tables, by their keys."""
    hints = table.__annotations__
    return {key: hint.__metadata__[0] for key, hint in hints.items() if hasattr(hint, "__metadata__")}
