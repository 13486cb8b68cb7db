"""The logs that a configuration names, opened together: what goes wrong, who asked for what, which scripts are slow."""

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
        #: None when nobody asked for it, as for `slow`.
        self.access: AccessLog | None = None
        if config.accesslog:
            # To compile its patterns costs memory.
            from ..logs.access_log import AccessLog

            self.access = AccessLog(config.accesslog, config.access_log_format, as_json=_is_json(config))
        self.slow: ErrorLog | None = None
        if config.slowlog:
            self.slow = ErrorLog(config.slowlog, "info", setting="slowlog", as_json=_is_json(config))

    def log_slow(self, script: str, title: str, seconds: float, traceback: bytes) -> None:
        """Tell the slow log that a request, "" for none, has run for so long, and where its script is."""
        if self.slow is not None:
            where = f"{script}: {title}" if title else script
            self.slow.warning(f"{where}: has run for {seconds:.1f} s, and is here:", traceback.strip(b"\n"))

    def flush(self) -> None:
        """Write what waits in memory."""
        if self.access is not None:
            self.access.flush()

    def reopen(self) -> None:
        """Open the files again, after a rotation. A log whose file cannot be opened stays with the old one."""
        for log in (self.error, self.access, self.slow):
            problem = log.reopen() if log is not None else ""
            if problem and log is not self.error:
                self.error.error(problem)

    def close(self) -> None:
        """Close the files."""
        for log in (self.access, self.slow, self.error):
            if log is not None:
                log.close()
