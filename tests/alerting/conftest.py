"""Fixtures: a receiver of alerts, and what posts to it."""

from collections.abc import Iterator

import pytest

from routing.alerting.post import Post
from tests.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes all."""
    with Receiver() as one:
        yield one


@pytest.fixture(scope="module")
def post() -> Post:
    """Posts, and does not wait for long."""
    return Post(timeout_s=0.4)
