"""Which workers recovery has restarted: those that live but have stopped consuming, and no others."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from app.job import Service
from app.worker_entry import WorkerEntry
from routing.policy.deafness import deaf_workers

STUCK_MS = 30_000

times = st.integers(0, 3 * STUCK_MS) | st.sampled_from([STUCK_MS - 1, STUCK_MS, STUCK_MS + 1])
services = st.lists(st.sampled_from(list(Service)), min_size=1, max_size=5, unique=True).map(tuple)
unheeded = st.dictionaries(st.sampled_from(list(Service)), times)


def a_worker(**changes: object) -> WorkerEntry:
    """Return an entry of an idle model worker, with what the test cares about set."""
    fields: dict[str, object] = {
        "name": "model@server-1", "server": "server-1", "services": (Service.MODEL,), "pid": 1, "host": "here",
        "processors": ("P2",), "cpus": (1,), "slots": 1, "busy": 0, "idle_ms": STUCK_MS, "figures": {}, "beat_ms": 0}
    return WorkerEntry(**(fields | changes))  # type: ignore[arg-type]


workers = st.lists(st.builds(a_worker, services=services, busy=st.integers(0, 2), idle_ms=times))


def deaf(worker: WorkerEntry, unheeded_ms: dict[Service, int]) -> bool:
    return deaf_workers([worker], unheeded_ms, stuck_ms=STUCK_MS) == [worker]


def test_an_idle_worker_that_leaves_a_wakeup_lying_is_deaf() -> None:
    assert deaf(a_worker(), {Service.MODEL: STUCK_MS})


@given(idle_ms=times, lain=unheeded)
def test_a_busy_worker_is_never_deaf(idle_ms: int, lain: dict[Service, int]) -> None:
    assert not deaf(a_worker(busy=1, idle_ms=idle_ms, services=tuple(Service)), lain)


@given(idle_ms=st.integers(0, STUCK_MS - 1), lain=unheeded)
def test_a_worker_that_claimed_a_job_lately_is_never_deaf(idle_ms: int, lain: dict[Service, int]) -> None:
    assert not deaf(a_worker(idle_ms=idle_ms, services=tuple(Service)), lain)


@given(entries=workers)
def test_where_no_wakeup_lies_unheeded_nobody_is_deaf(entries: list[WorkerEntry]) -> None:
    assert deaf_workers(entries, {}, stuck_ms=STUCK_MS) == []


@given(lain=unheeded, own=services)
def test_wakeups_of_services_that_are_not_its_own_do_not_make_a_worker_deaf(
        lain: dict[Service, int], own: tuple[Service, ...]) -> None:
    others = {service: STUCK_MS * 2 for service in Service if service not in own}

    assert not deaf(a_worker(services=own), others)
    assert deaf(a_worker(services=own), others | {own[-1]: STUCK_MS})


@given(entries=workers, lain=unheeded)
def test_each_worker_is_judged_by_itself_and_the_order_is_kept(
        entries: list[WorkerEntry], lain: dict[Service, int]) -> None:
    assert deaf_workers(entries, lain, stuck_ms=STUCK_MS) == [each for each in entries if deaf(each, lain)]


@given(entries=workers, lain=unheeded, longer_ms=st.integers(0, STUCK_MS))
def test_more_patience_never_makes_more_workers_deaf(
        entries: list[WorkerEntry], lain: dict[Service, int], longer_ms: int) -> None:
    few = deaf_workers(entries, lain, stuck_ms=STUCK_MS + longer_ms)

    assert all(each in deaf_workers(entries, lain, stuck_ms=STUCK_MS) for each in few)


@given(entries=workers, lain=unheeded, held=services)
def test_a_worker_that_was_told_to_leave_services_alone_is_judged_by_the_others(
        entries: list[WorkerEntry], lain: dict[Service, int], held: tuple[Service, ...]) -> None:
    told = [replace(worker, held=held) for worker in entries]
    others = {service: waited_ms for service, waited_ms in lain.items() if service not in held}

    assert [worker.held for worker in deaf_workers(told, lain, stuck_ms=STUCK_MS)] == [
        held for _ in deaf_workers(entries, others, stuck_ms=STUCK_MS)]


def test_a_worker_that_holds_all_it_has_is_never_deaf() -> None:
    assert not deaf(a_worker(held=(Service.MODEL,)), {Service.MODEL: 3 * STUCK_MS})
    assert deaf(a_worker(services=(Service.MODEL, Service.CHAT), held=(Service.MODEL,)), {Service.CHAT: STUCK_MS})
