"""Fixtures: one Redis and one MNS server for all that is tested here; settings with which both are reached, with queues of
each test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from app.ledger import CloudLedger
from app.settings import Settings
from ops.embedded_redis import EmbeddedRedis, start
from ops.mns_server import LocalMns
from routing.cloud.fleet import Fleet
from tests.cloud_home.stand_in import StandIn, counting, reaching


@pytest.fixture(scope="package")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One Redis: what is tested here is not the scripts."""
    server = start(tmp_path_factory.mktemp("redis"), fsync="no")
    yield server
    server.stop()


@pytest.fixture(scope="package")
def server() -> Iterator[LocalMns]:
    """The MNS server."""
    with LocalMns.running([("id", "secret")], objects=False) as one:
        yield one


@pytest.fixture
def mns(server: LocalMns) -> Iterator[LocalMns]:
    """The server, without faults."""
    yield server
    server.faults.clear()


@pytest.fixture
def settings(settings: Settings, mns: LocalMns, tmp_path: Path) -> Settings:
    """Settings with which Redis and the MNS server are reached."""
    return reaching(settings, mns, tmp_path)


@pytest.fixture
def cloud(client: redis.Redis, settings: Settings) -> CloudLedger:
    """The ledger's side of the cloud."""
    return CloudLedger(client, settings)


@pytest.fixture
def fleet(client: redis.Redis, settings: Settings) -> Fleet:
    """The cloud workers that were heard of."""
    return Fleet(client, settings)


@pytest.fixture
def worker(settings: Settings) -> Iterator[StandIn]:
    """A cloud worker that does what a test says."""
    one = StandIn(settings)
    yield one
    one.close()


@pytest.fixture
def counted() -> Callable[[str], int]:
    """How often an event has been logged since the test began."""
    return counting()
