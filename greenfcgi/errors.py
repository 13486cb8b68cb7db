"""The exceptions of greenfcgi, and whose fault each one is; and what the exit status of the command means.

::

    GreenfcgiError
    ├── ConfigError        the operator's: config.toml or the command line; one line, exit status 2
    ├── BindError          the operator's: an address cannot be listened on; one line, exit status 1
    ├── BootError          the operator's: a process ended before it could serve; one line, exit status 2 or 3
    ├── ProtocolError      the web server's: bytes that are not FastCGI; its connection is closed
    └── ScriptError        the script author's: answered with `status`, and a line in the error log
        ├── ScriptMissing      404
        ├── FolderMoved        301: a folder, whose path lacks the slash at its end
        ├── ScriptForbidden    403
        ├── ScriptBusy         503: nothing to run it with, for now
        └── ScriptBroken       500: it does not load, or has no handler
            └── ScriptLate         504: it does not load within its time

Nothing else is raised on purpose, and none of these carries a traceback to a user.
"""

from collections.abc import Mapping
from enum import IntEnum


class ExitStatus(IntEnum):
    """What the command ends with."""

    #: Success.
    OK = 0
    #: An address is taken, or a stop did not let everything finish; with --try, the request got an error.
    FAILED = 1
    #: The command line or the configuration is wrong.
    USAGE = 2
    #: A process of the supervisor ended before it could serve.
    BOOT = 3


class GreenfcgiError(Exception):
    """Base class of all exceptions that greenfcgi raises on purpose."""


class ConfigError(GreenfcgiError):
    """A setting is wrong. The text names the file, the key, what was found and what is expected."""


class BindError(GreenfcgiError):
    """An address cannot be listened on. The text names the address and the reason."""


class BootError(GreenfcgiError):
    """A process ended before it could serve. `status` is what the command exits with."""

    def __init__(self, problem: str, status: int) -> None:
        super().__init__(problem)
        self.status = status


class ProtocolError(GreenfcgiError):
    """The peer broke FastCGI 1.0 so that the beginning of the next record cannot be found."""


class ScriptError(GreenfcgiError):
    """A script cannot be run. The text is one line for the error log, with the path in it."""

    #: HTTP status that answers the request.
    status = 500


class ScriptMissing(ScriptError):
    """There is no such regular file, or it has another extension."""

    status = 404


class FolderMoved(ScriptError):
    """A URL names a folder without the slash at its end. `path` has it."""

    status = 301

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is a folder")
        self.path = path


class ScriptForbidden(ScriptError):
    """The file is outside `scripts.root`, or may not be read."""

    status = 403


class ScriptBusy(ScriptError):
    """The server has no state, or no descriptor, to run it with; soon it may."""

    status = 503


class ScriptBroken(ScriptError):
    """The script does not load, or does not define the handler. `traceback` is Lua's, where there is one; `frames` the
    same for the developer mode (JSON); `texts` are what Lua has read until then, by path.
    """

    def __init__(
        self, message: str, traceback: str = "", frames: bytes = b"", texts: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.frames = frames
        self.texts = texts or {}


class ScriptLate(ScriptBroken):
    """What a script does while it loads takes longer than `timeout`."""

    status = 504
