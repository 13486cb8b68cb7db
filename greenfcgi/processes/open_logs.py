"""The logs that a configuration names, opened together: the error log, the access log, the log of slow requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.load import Config
from ..logs.error_log import ErrorLog

if TYPE_CHECKING:
    from ..logs.access_log import AccessLog


def error_log(config: Config) -> ErrorLog:
    """The error log. Raises `ConfigError` when it cannot be opened."""
    return ErrorLog(config.errorlog, config.loglevel, as_json=_is_json(config))


def _is_json(config: Config) -> bool:
    return config.log_format == "json"


class Logs:
    """The logs of one process. Raises `ConfigError` when one cannot be opened."""

    def __init__(self, config: Config) -> None:
        self.error = error_log(config)
        #: None where no file is set, as for `slow`.
        self.access: AccessLog | None = None
        if config.accesslog:
            # To compile its patterns costs memory.
            from ..logs.access_log import AccessLog

            self.access = AccessLog(config.accesslog, config.access_log_format, as_json=_is_json(config))
        self.slow: ErrorLog | None = None
        if config.slowlog:
            self.slow = ErrorLog(config.slowlog, "info", setting="slowlog", as_json=_is_json(config))

    def log_slow(self, script: str, title: str, seconds: float, traceback: bytes) -> None:
        """Log that a request has run for so many seconds, with Lua's traceback.

        `title` is the request's method and URL, "" where a script runs for none.
        """
        if self.slow is not None:
            where = f"{script}: {title}" if title else script
            self.slow.warning(f"{where}: slow: running for {seconds:.1f} s; traceback:", traceback.strip(b"\n"))

    def flush(self) -> None:
        """Write what waits in memory."""
        if self.access is not None:
            self.access.flush()

    def reopen(self) -> None:
        """Open the files again, after a rotation. Where a file cannot be opened, the old one stays open."""
        for log in (self.error, self.access, self.slow):
            problem = log.reopen() if log is not None else ""
            if problem and log is not self.error:
                self.error.error(problem)

    def close(self) -> None:
        """Close the files."""
        for log in (self.access, self.slow, self.error):
            if log is not None:
                log.close()
