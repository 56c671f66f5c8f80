"""Fixtures: the service under test, and queues in it."""

from collections.abc import Iterator

import pytest

from tests.mns_suite.client import Queues, Service, some_queues, the_service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """The service under test."""
    with the_service() as one:
        yield one


@pytest.fixture
def queues(service: Service) -> Iterator[Queues]:
    """Queues of this test."""
    with some_queues(service) as some:
        yield some
