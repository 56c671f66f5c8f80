"""Fixtures: the ledger's part for the cloud, in which each call is repeated, as if its reply had been lost."""

from collections.abc import Iterator

import pytest
import redis

from app.ledger import Ledger
from app.settings import Settings
from ops import audit
from tests.ledger_cloud import NOW_MS
from tests.ledger_cloud_rules import Repeating


@pytest.fixture
def cloud(client: redis.Redis, settings: Settings) -> Repeating:
    """The ledger's part for the cloud."""
    return Repeating(client, settings, now_ms=NOW_MS)


@pytest.fixture(autouse=True)
def books_balance(client: redis.Redis, ledger: Ledger) -> Iterator[None]:
    """At the end of each test the ledger's books balance."""
    ledger.now_ms = NOW_MS
    yield
    found = audit.take(client, ledger)
    assert found.balanced, found.faults
