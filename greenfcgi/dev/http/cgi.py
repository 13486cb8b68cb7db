"""The CGI variables that say which script answers, as a web server in front would send them."""

from __future__ import annotations

from collections.abc import Iterator

from .url_paths import Script


def script_variables(root: str, script: Script, software: str) -> Iterator[tuple[str, str]]:
    """(name, value) of each; `root` is the folder of scripts, `software` what SERVER_SOFTWARE says."""
    yield "SCRIPT_FILENAME", root + script.name
    yield "SCRIPT_NAME", script.name
    yield "PATH_INFO", script.info
    yield "DOCUMENT_ROOT", root
    yield "DOCUMENT_URI", script.name + script.info
    yield "GATEWAY_INTERFACE", "CGI/1.1"
    yield "SERVER_SOFTWARE", software
    yield "REQUEST_SCHEME", "http"
    yield "REDIRECT_STATUS", "200"
