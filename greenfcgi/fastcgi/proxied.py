"""What Apache's mod_proxy_fcgi sends as SCRIPT_FILENAME: the address of this server, and a path behind it.

With SetHandler the path is the file's, and SCRIPT_NAME and PATH_INFO are right. With ProxyPass, ProxyPassMatch and
[P] of mod_rewrite it is what the URL became: percent escapes are not decoded, a query may stand behind it, and it is
not split into script and PATH_INFO. Both are done here, as php-fpm does, and for this prefix alone: any other
SCRIPT_FILENAME is taken as it is.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .path_info import split
from .request import Request

PREFIX = b"proxy:"

#: Bytes of a path that is looked for; the kernel takes no longer one (PATH_MAX).
_MAX_PATH = 4096


class Target(NamedTuple):
    """What a SCRIPT_FILENAME with the prefix means: the path of a script, and the PATH_INFO behind it, or b""."""

    path: bytes
    info: bytes


def parse(filename: bytes, extensions: tuple[bytes, ...]) -> Target:
    """Read a SCRIPT_FILENAME with the prefix. The script need not exist.

    "proxy:fcgi://host:port/path", "proxy:balancer://name/path", "proxy:unix:/socket|fcgi://host/path", each with a
    "?query" or without.
    """
    _, _, rest = filename.partition(b"://")
    # Where the address of the handler ends in a slash, there are two.
    path = b"/" + rest.partition(b"/")[2].lstrip(b"/")
    if len(path) > _MAX_PATH:
        return Target(path, b"")
    if path.endswith(extensions) and os.path.isfile(path):
        # As with SetHandler: a percent sign or a question mark is one of the file's name.
        return Target(path, b"")
    # Here: it takes 0.2 MB, and most servers never see such a path.
    from urllib.parse import unquote_to_bytes

    path = unquote_to_bytes(path.partition(b"?")[0])
    if b"\0" in path:
        return Target(path, b"")
    script, info = split(os.fsdecode(path), tuple(map(os.fsdecode, extensions)), os.path.isfile)
    return Target(os.fsencode(script), os.fsencode(info))


def rewrite(request: Request, target: Target, is_script: bool) -> bytes:
    """Give a request the SCRIPT_FILENAME that was meant, with SCRIPT_NAME and PATH_INFO to match. Returns it.

    `is_script`: the path is known as that of a script. With SetHandler and a file that is not there, Apache takes what
    follows the first name that is missing for PATH_INFO, which nothing has split: it is a part of the path.
    """
    path, info = target
    pairs = []
    if info:
        pairs.append((b"PATH_INFO", info))
        name = request.variables().get(b"SCRIPT_NAME", b"")
        if name.endswith(info):
            pairs.append((b"SCRIPT_NAME", name[: -len(info)]))
    elif not is_script and not os.path.isfile(path):
        variables = request.variables()
        rest = variables.get(b"PATH_INFO", b"")
        # What leads up would be another's path.
        if rest.startswith(b"/") and b"/../" not in rest + b"/":
            path = path.rstrip(b"/") + rest
            pairs += [(b"SCRIPT_NAME", variables.get(b"SCRIPT_NAME", b"").rstrip(b"/") + rest), (b"PATH_INFO", b"")]
    request.append((b"SCRIPT_FILENAME", path), *pairs)
    return path
