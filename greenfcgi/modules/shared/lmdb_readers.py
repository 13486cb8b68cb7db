"""Processes that read a dictionary of LMDB's while another one finds no free page to write to.

A process that reads keeps all pages as they were when it began, until it has read: for a microsecond, or for some
milliseconds where the system runs others in its midst. What is changed meanwhile takes other pages, and a small
dictionary has few. To remove entries frees no page then. So whoever writes waits for the reader; a little while, since
one that was stopped in its midst reads for ever.
"""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any, Final

#: Seconds that one write waits, and between two looks. Nothing else of this process goes on meanwhile.
_PATIENCE: Final = 0.5
_NAP: Final = 0.0005
#: Seconds for which nobody waits again after that.
_PAUSE: Final = 2.0


class Readers:
    """Those of one environment."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        #: Until then, a reader that does not end is not waited for.
        self._no_patience_before = 0.0

    def hold_pages(self) -> bool:
        """Whether one reads what has been changed since. Forgets those that have been killed."""
        self._environment.reader_check()
        last = self._environment.info()["last_txnid"]
        # A line for each: process, thread, and the transaction that it sees, "-" for none.
        for line in self._environment.readers().splitlines():
            seen = line.split()[-1:]
            if seen and seen[0].isdigit() and int(seen[0]) < last:
                return True
        return False

    def wait(self) -> bool:
        """Wait until none does. False where that takes too long."""
        now = monotonic()
        until = now + _PATIENCE if now >= self._no_patience_before else now
        while self.hold_pages():
            if monotonic() >= until:
                if until > now:
                    self._no_patience_before = until + _PAUSE
                return False
            sleep(_NAP)
        return True
