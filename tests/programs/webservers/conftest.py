"""All web servers, once for each of the processes that run the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .client import Web
from .fronts import FRONTS, SERVERS, Front
from .installed import program
from .site import Site, bare_site, front_site, outside_site, plain_site

_BY_UNIX_SOCKET = [Front(server, "unix") for server in SERVERS]
_BY_TCP = [Front(server, "tcp") for server in SERVERS]


def _of(site: Site, front: Front) -> Web:
    program(front.server)
    return site.webs[front]


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Scripts, static files, and what is private."""
    with plain_site(FRONTS) as found:
        yield found


@pytest.fixture(scope="session", params=FRONTS, ids=str)
def web(request: pytest.FixtureRequest, site: Site) -> Web:
    """Each web server in front of the site, by each transport."""
    return _of(site, request.param)


@pytest.fixture(scope="session", params=_BY_UNIX_SOCKET, ids=str)
def server_web(request: pytest.FixtureRequest, site: Site) -> Web:
    """Each web server in front of the site, by one transport: for what is the web server's alone."""
    return _of(site, request.param)


@pytest.fixture(scope="session")
def application() -> Iterator[Site]:
    """A front script."""
    with front_site(_BY_UNIX_SOCKET) as found:
        yield found


@pytest.fixture(scope="session", params=_BY_UNIX_SOCKET, ids=str)
def application_web(request: pytest.FixtureRequest, application: Site) -> Web:
    """Each web server in front of a front script."""
    return _of(application, request.param)


@pytest.fixture(scope="session")
def bare() -> Iterator[Site]:
    """No static files."""
    with bare_site(_BY_TCP) as found:
        yield found


@pytest.fixture(scope="session", params=_BY_TCP, ids=str)
def bare_web(request: pytest.FixtureRequest, bare: Site) -> Web:
    """Each web server in front of a site without static files."""
    return _of(bare, request.param)


@pytest.fixture(scope="session")
def outside() -> Iterator[Site]:
    """Everybody is another machine."""
    with outside_site(_BY_UNIX_SOCKET) as found:
        yield found


@pytest.fixture(scope="session", params=_BY_UNIX_SOCKET, ids=str)
def outside_web(request: pytest.FixtureRequest, outside: Site) -> Web:
    """Each web server, to which the tests are another machine."""
    return _of(outside, request.param)
