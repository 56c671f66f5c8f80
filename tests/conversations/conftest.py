"""Fixtures: a gateway, and a chat worker in this process that answers as it is told."""

from collections.abc import Iterator

import pytest
import redis

from app.ledger import Ledger
from app.settings import Settings
from tests.gateway import Gateway
from tests.talk import Worker, begin


@pytest.fixture
def gateway(client: redis.Redis, settings: Settings) -> Gateway:
    """A gateway."""
    return Gateway(settings, client)


@pytest.fixture
def begun(gateway: Gateway) -> str:
    """A conversation."""
    return begin(gateway)


@pytest.fixture
def worker(client: redis.Redis, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The worker."""
    with Worker.working(ledger, settings, client, monkeypatch) as one:
        yield one
