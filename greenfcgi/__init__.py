"""greenfcgi: a FastCGI application server for Lua. The command is in `cli`; the way of a request begins in `serving`.

Python modules for scripts (`[modules]` in config.toml) import `export` from here.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, overload

    Function = TypeVar("Function", bound=Callable[..., Any])

    @overload
    def export(function: Function, /) -> Function: ...
    @overload
    def export(*, blocking: bool = False) -> Callable[[Function], Function]: ...
    def export(function: Any = None, /, *, blocking: bool = False) -> Any:
        """As below."""

else:

    def export(function=None, /, *, blocking=False):
        """Let scripts call a function: `@greenfcgi.export`, or `@greenfcgi.export(blocking=True)` where it waits.

        A function that is marked as blocking runs in a thread, and the script waits for it without holding up any
        other; one that is not runs at once, and everybody waits until it returns. What it takes and returns is in
        `modules.values`.
        """

        def mark(function):
            function.__greenfcgi_blocking__ = blocking
            return function

        return mark if function is None else mark(function)
