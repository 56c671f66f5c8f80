"""A worker counts what became of its attempts in the last minute: failures are the engine's fault or our own."""

import pytest
import redis

from app import errors
from app.errors import TandemError
from app.job import Service
from app.ledger import Ledger
from app.registry import Registry
from app.settings import Settings
from tests.clock import Clock
from tests.model_ledger import PLACE, a_running_job
from workers.attempt import Answer, SlotsTaken, TaskUnknown, count
from workers.attempt_window import AttemptWindow
from workers.node import Node, Running


@pytest.fixture
def node(ledger: Ledger, settings: Settings) -> Node:
    return Node(ledger, settings, PLACE, services=(Service.MODEL,), processors=("P2",), slots=2)


@pytest.fixture
def running(ledger: Ledger) -> Running:
    return Running(a_running_job(ledger))


def test_attempts_are_forgotten_a_minute_after_their_end() -> None:
    clock = Clock()
    window = AttemptWindow(clock)
    for failed in (True, False, False):
        window.ended(failed=failed)
        clock.now_s += 10

    assert window.counts() == (3, 1)
    clock.now_s += 30
    assert window.counts() == (2, 0)
    clock.now_s += 60
    assert window.counts() == (0, 0)


def test_many_attempts_in_a_second_are_all_counted() -> None:
    clock = Clock()
    window = AttemptWindow(clock)
    for number in range(1000):
        clock.now_s += 0.01
        window.ended(failed=number % 4 == 0)

    assert window.counts() == (1000, 250)


@pytest.mark.parametrize(("outcome", "counts"), [
    (Answer(result=1), (1, 0)),
    (errors.EngineFailed("it broke"), (1, 1)),
    (errors.EngineTransient("it broke"), (1, 1)),
    (errors.EngineUnavailable("the upstream is away"), (1, 1)),
    (errors.StoreUnavailable("Redis is away"), (1, 1)),
    (ValueError("a bug"), (1, 1)),
    (errors.InvalidInput("the caller's"), (1, 0)),
    (errors.PromptTooLong("the caller's"), (1, 0)),
    (errors.JobStopped("cancelled"), (1, 0)),
    (SlotsTaken("no slot"), (0, 0)),
    (TaskUnknown("a newer one"), (0, 0)),
])
def test_only_what_the_engine_or_we_got_wrong_counts_as_failed(
        node: Node, running: Running, outcome: Answer | Exception, counts: tuple[int, int]) -> None:
    count(running, node, outcome)

    assert node.attempts.counts() == counts


def test_an_attempt_whose_job_was_taken_from_it_has_not_failed(node: Node, running: Running) -> None:
    running.lost.set()
    count(running, node, TandemError("it noticed in its own way"))

    assert node.attempts.counts() == (1, 0)


def test_the_workers_entry_tells_them_and_what_is_held(node: Node, client: redis.Redis) -> None:
    node.attempts.ended(failed=True)
    node.attempts.ended(failed=False)
    node.holding.hear(1, [Service.MODEL], 15)
    node.register()

    (entry,) = Registry(client).workers()
    assert (entry.attempts, entry.attempts_failed, entry.held) == (2, 1, (Service.MODEL,))
