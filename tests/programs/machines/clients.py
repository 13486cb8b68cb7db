"""Browsers for tests: they ask again and again over kept connections, check each byte, and keep what they got."""

from __future__ import annotations

import http.client
import itertools
from collections import Counter
from functools import partial
from typing import NamedTuple

from ...support.load import Crowd
from ...support.running import PATIENCE, until

#: Seconds between two requests, so that the machines have the processor, too.
_PAUSE = 0.002


class Got(NamedTuple):
    """What a request has got: from which machine, or what was wrong with it."""

    method: str
    number: str
    machine: str
    problem: str


class Clients(Crowd):
    """They ask until the end of the block: `gets` threads for page.lua, and `posts` for count.lua.

    No two requests are the same, so that each reply can be told from every other.
    """

    _numbers = itertools.count(1)

    def __init__(self, port: int, *, gets: int = 0, posts: int = 0) -> None:
        self._port = port
        super().__init__([partial(self._work, method) for method in ["GET"] * gets + ["POST"] * posts])
        self.got: list[Got] = []

    def number(self, method: str) -> int:
        """How many have been answered, or not."""
        return sum(got.method == method for got in self.got)

    def failures(self, method: str) -> list[Got]:
        """Those that were not answered right."""
        return [got for got in self.got if got.method == method and got.problem]

    def machines(self) -> Counter[str]:
        """Who has answered how many."""
        return Counter(got.machine for got in self.got)

    def until_number(self, number: int) -> None:
        """Wait until so many GETs have been answered, or not, as long as there are more and more."""
        while (before := self.number("GET")) < number:
            self._until_more(before)

    def _until_more(self, number: int) -> None:
        until(lambda: self.number("GET") > number, "another reply")

    def until_answered_by(self, name: str) -> None:
        """Wait for a new reply of this machine."""
        before = self.machines()[name]
        until(lambda: self.machines()[name] > before, f"a reply of machine {name}")

    def _work(self, method: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2 * PATIENCE)
        while not self.over.is_set():
            number = str(next(self._numbers))
            machine = ""
            try:
                if method == "GET":
                    connection.request("GET", f"/page.lua?{number}")
                    expected = f"page {number}:" + f"{number}," * 300
                else:
                    connection.request("POST", "/count.lua", f"id{number}")
                    expected = f"counted id{number} 1"
                response = connection.getresponse()
                machine = response.headers["X-Machine"] or ""
                body = response.read()
                is_right = (response.status, body) == (200, expected.encode())
                problem = "" if is_right else f"{response.status} {body[:60]!r}"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                problem = repr(error)
            self.got.append(Got(method, number, machine, problem))
            self.over.wait(_PAUSE)
        connection.close()
