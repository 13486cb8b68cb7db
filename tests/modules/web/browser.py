"""A client that keeps cookies, for scripts in the tests' own process."""

from __future__ import annotations

import re

from ...support.inside import Answer, Inside, Request

_HEAD = """
    local session = require "greenfcgi.session"
    local function say(...) for i = 1, select("#", ...) do con:puts(tostring((select(i, ...))), "\\n") end end
"""


class Browser:
    """Asks for pages; `options` is what `session.start` gets, as Lua source."""

    def __init__(self, lua: Inside, options: str = "nil") -> None:
        self.cookies: dict[str, str] = {}
        #: What the last reply has set.
        self.set: list[str] = []
        self._lua = lua
        self._options = options

    def ask(self, statements: str, **variables: str) -> Answer:
        """What a page of these statements answers, which has the session as `s`."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        source = f"{_HEAD}\nlocal s = assert(session.start(env, con, {self._options}))\n{statements}"
        answer = self._lua.main(source, Request({"HTTP_COOKIE": cookies} | variables))
        self.set = [found.decode() for found in re.findall(rb"Set-Cookie: ([^\r\n]*)", answer.head)]
        for line in self.set:
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def says(self, statements: str, **variables: str) -> list[str]:
        """What such a page says, line by line."""
        return self.ask(statements, **variables).text.split("\n")[:-1]
