"""What tests of several machines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...support.programs import program
from .cluster import Cluster


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three machines behind each balancer."""
    program("redis-server")
    with Cluster(tmp_path_factory.mktemp(request.param), request.param).running() as found:
        yield found
