"""Fixtures: a routing task that a test drives, with a policy, a clock and workers of the test's own."""

from collections.abc import Iterator

import pytest
import redis

from app.ledger import Ledger
from app.settings import Settings
from ops import audit
from routing.task import Routing
from tests.clock import Clock
from tests.routing_task import HOLD, Policy, Told, task


@pytest.fixture(autouse=True)
def books_balance(client: redis.Redis, ledger: Ledger) -> Iterator[None]:
    """At the end of each test the ledger's books balance."""
    yield
    found = audit.take(client, ledger)
    assert found.balanced, found.faults


@pytest.fixture
def policy() -> Policy:
    """It decides to hold two services of a server."""
    return Policy(HOLD)


@pytest.fixture
def told() -> Told:
    """What workers were told."""
    return Told()


@pytest.fixture
def clock() -> Clock:
    """The task's monotonic clock."""
    return Clock()


@pytest.fixture
def routing(settings: Settings, policy: Policy, told: Told, clock: Clock) -> Iterator[Routing]:
    """The task."""
    with task(settings, decide=policy, tell=told, clock=clock) as one:
        yield one
