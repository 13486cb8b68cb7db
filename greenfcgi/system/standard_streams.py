"""The three standard streams, which some parents close in what they start (`greenfcgi >&-`)."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Put /dev/null where one of them is closed, before anything else is opened.

    The next file would get its descriptor otherwise, be it a log, a script or a connection, and what is written to the
    standard stream would end up there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # open until the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  # open until the end
