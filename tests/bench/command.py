"""What the commands of the benchmark have in common: progress on stderr, and how they end."""

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from .errors import BenchError


def progress(text: str) -> None:
    """Tell how far it has come."""
    print(text, file=sys.stderr, flush=True)


def carry_out(work: Callable[[], int]) -> int:
    """Do the work of a command, and return its exit status.

    It is 2, behind one line that says why, when it could not be measured, and 130 after Ctrl-C or SIGTERM, when what
    had been started has been ended on the way out.
    """
    signal.signal(signal.SIGTERM, _leave)
    try:
        return work()
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _leave(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
