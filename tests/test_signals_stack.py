"""Signals of a whole stack: every server tells of itself, its processors and its workers, and the gateways count."""

from app.signal_board import SignalBoard
from app.signals import ServerSignals
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

LABELS = {"server-1": {"P1", "P2", "P3", "P4", "P5"}, "server-2": {"P6", "P7", "P8", "P9", "P10"}}


def told(stack: Sandbox) -> dict[str, ServerSignals]:
    """What is told of each server that is heard of."""
    with stack.client() as client:
        return {name: signals for name, signals in SignalBoard(client).servers(list(LABELS)).items() if signals}


def answers(stack: Sandbox) -> int:
    return sum(signals.answers.count for signals in told(stack).values() if signals.answers)


def test_every_server_tells_of_its_processors_its_memory_its_workers_and_its_gateway(stack: Sandbox) -> None:
    wait_until(lambda: {name: set(signals.processors) for name, signals in told(stack).items()} == LABELS, timeout_s=20,
               what="each label to be measured")
    wait_until(lambda: all(signals.calls for signals in told(stack).values()), timeout_s=20, what="the gateways to report")

    for name, signals in told(stack).items():
        assert set(signals.workers) == {f"{service}@{name}" for service in ("auth", "cache", "chat", "model", "queue")}
        assert 0 <= (signals.cpu_percent or 0) <= 100
        assert 0 < (signals.memory_percent or 0) <= 100


def test_a_caller_who_waits_is_counted_with_the_time_to_the_first_word(stack: Sandbox, stranger: Caller) -> None:
    answer = stranger.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "one [stall 1s] two"}},
                           headers={"Prefer": "wait=30"}).json()
    assert answer["state"] == "succeeded"

    wait_until(lambda: answers(stack) > 0, timeout_s=20, what="the answer to be told")
    with stack.client() as client:
        created, first, ended = map(int, client.hmget(f"job:{answer['id']}", "created_ms", "first_ms", "finished_ms"))
    assert created <= first <= ended - 900, "it began before the stall"
