"""What the commands of the benchmark have in common: progress on stderr, and an end like that of Ctrl-C on SIGTERM."""

import sys
from typing import NoReturn


def progress(text: str) -> None:
    """Tell how far it has come."""
    print(text, file=sys.stderr, flush=True)


def leave(number: int, frame: object) -> NoReturn:
    """Handle SIGTERM: what has been started is ended on the way out."""
    raise KeyboardInterrupt
