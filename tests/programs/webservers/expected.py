"""Where web servers differ, and why: what is expected of each measurement, as data."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What is usual, and what other servers do, each with the reason."""

    usual: str
    others: dict[str, tuple[str, str]]

    def of(self, server: str) -> str:
        """What is expected of a server."""
        return self.others[server][0] if server in self.others else self.usual


_RAW = "hands on the path as it came, but for percent signs"
_WAITS = "keeps the connection to greenfcgi until there is something to send to its client"
_BUFSIZE = "reads as much of a body as its buffer holds, tune.bufsize, before it knows how long that is"
_CONTROL = "refuses paths with control characters"

EXPECTED: dict[str, Row] = {
    "static files": Row("yes", {"haproxy": ("no", "it has none; another backend sends them")}),
    "connections to greenfcgi are kept": Row(
        "yes",
        {
            "lighttpd": ("no", "it asks for no kept connection"),
            "apache": ("no", "without enablereuse, with which requests were lost when greenfcgi stopped"),
            "caddy": ("no", "it asks for no kept connection"),
        },
    ),
    "HTTP/2 in front": Row("yes", {}),
    "an upload of 20 MB": Row("yes", {}),
    "a chunked upload of 300 KB": Row("yes", {"haproxy": ("400", _BUFSIZE)}),
    "the same by HTTP/2": Row("yes", {"lighttpd": ("no", "it wants a Content-Length"), "haproxy": ("no", _BUFSIZE)}),
    "60 headers of 1 KB": Row("yes", {}),
    "`Expect: 100-continue` is answered": Row("yes", {}),
    "half an upload never starts its script": Row("yes", {}),
    "a body beyond `max_post`": Row("413", {}),
    "PATH_INFO of `/env.lua/a/../b`": Row("`/b`", {"caddy": ("`/a/../b`", _RAW), "haproxy": ("`/a/../b`", _RAW)}),
    "of `/env.lua//a`": Row("`/a`", {"caddy": ("`//a`", _RAW), "haproxy": ("`//a`", _RAW)}),
    "of `/env.lua/a%0ab`": Row("`/a\\nb`", {"lighttpd": ("400", _CONTROL), "haproxy": ("500", _CONTROL)}),
    "of `/env.lua/a%00b`": Row("400", {"apache": ("404", "it is in no file's name"), "haproxy": ("500", _CONTROL)}),
    "of `/env.lua/a%2Fb`": Row("`/a/b`", {"apache": ("404", "AllowEncodedSlashes is off unless set")}),
    "a header that comes twice": Row('"one, two"', {}),
    "two `Cookie` headers (HTTP/1.1)": Row(
        '"a=1; b=2"',
        {
            "apache": ('"a=1, b=2"', "it joins headers that come twice with a comma"),
            "caddy": ('"a=1, b=2"', "it joins headers that come twice with a comma"),
        },
    ),
    "`Authorization` reaches the script": Row("yes", {}),
    "36 KB of headers in a reply": Row("yes", {}),
    "`con:flush()` arrives at once": Row("yes", {"nginx": ("no", "unless fastcgi_buffering is off")}),
    "with `X-Accel-Buffering: no`": Row("yes", {}),
    "a page that fails after `con:flush()` is seen as cut": Row(
        "yes", {"caddy": ("no", "it takes the end of the connection for the end of the reply")}
    ),
    "one with a Content-Length": Row("yes", {}),
    "a client that leaves ends a script that writes": Row("yes", {}),
    "one that sleeps": Row("no", {"nginx": ("yes", "it hangs up when its client does")}),
    "`con:file`: the web server sends the file by": Row(
        "`X-Accel-Redirect`",
        {
            "lighttpd": ("`X-Sendfile`", "its own header"),
            "apache": ("`X-Sendfile`", "with mod_xsendfile"),
            "haproxy": ("no", "it sends no files"),
        },
    ),
    "a range of a file that `con:file` sends": Row("yes", {}),
    "errors with `scripts.stderr` in its log": Row(
        "yes", {"caddy": ("no", "it drops them"), "haproxy": ("no", "it drops them")}
    ),
}
