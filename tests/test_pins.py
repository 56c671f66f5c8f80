"""Processor labels map onto the CPUs there are; where there are fewer they are shared, and that is said."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.topology import Topology, load
from ops.pins import cpus_of, sharing_notice

numbers = st.lists(st.integers(1, 40), min_size=1, max_size=8)
cpus = st.lists(st.integers(0, 200), min_size=1, max_size=32, unique=True).map(sorted)


@pytest.mark.parametrize(("processors", "available", "expected"), [
    ((1,), (0, 1, 2, 3), (0,)),
    ((4,), (0, 1, 2, 3), (3,)),
    ((5,), (0, 1, 2, 3), (0,)),  # past the last, the first again
    ((10,), (0, 1), (1,)),
    ((7,), (3,), (3,)),
    ((2,), (4, 9, 11), (9,)),  # the CPUs a container got need not begin at 0
    ((1, 2), (0, 1, 2, 3), (0, 1)),
    ((3, 1), (0, 1, 2, 3), (0, 2)),
    ((1, 3), (0, 1), (0,)),  # two processors that fall on one CPU
    ((1, 2, 3, 4, 5), (0, 1, 2), (0, 1, 2))])
def test_processors_go_round_the_usable_cpus(
        processors: tuple[int, ...], available: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert cpus_of(processors, available) == expected


@given(processors=numbers, available=cpus)
def test_a_pin_is_sorted_within_the_usable_cpus_and_never_empty(processors: list[int], available: list[int]) -> None:
    pin = cpus_of(processors, available)

    assert 1 <= len(pin) <= min(len(processors), len(available))
    assert set(pin) <= set(available)
    assert list(pin) == sorted(pin)


@given(available=cpus)
def test_with_cpus_enough_each_processor_has_one_of_its_own(available: list[int]) -> None:
    assert [cpus_of([number], available) for number in range(1, len(available) + 1)] == [(cpu,) for cpu in available]


@given(available=cpus, rounds=st.integers(1, 4))
def test_shared_cpus_bear_the_same_number_of_processors_each(available: list[int], rounds: int) -> None:
    pins = [cpus_of([number], available)[0] for number in range(1, rounds * len(available) + 1)]

    assert {pins.count(cpu) for cpu in available} == {rounds}


def test_the_usable_cpus_are_those_of_the_process() -> None:
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(mine)})
        assert cpus_of([1, 2, 3]) == (max(mine),)
    finally:
        os.sched_setaffinity(0, mine)
    assert cpus_of(range(1, 100)) == tuple(sorted(mine))


@pytest.fixture
def plan() -> Topology:
    """The shipped topology, with processors up to P10."""
    return load({})[1]


@pytest.mark.parametrize("usable", [1, 2, 9])
def test_sharing_is_said_with_where_it_begins(plan: Topology, monkeypatch: pytest.MonkeyPatch, usable: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))

    notice = sharing_notice(plan)
    assert notice is not None
    assert "processors up to P10" in notice
    assert f"{usable} CPUs" in notice
    assert f"P{usable + 1} on the first again" in notice
    assert cpus_of([usable + 1]) == cpus_of([1])


@pytest.mark.parametrize("usable", [10, 11, 128])
def test_with_cpus_enough_there_is_nothing_to_say(plan: Topology, monkeypatch: pytest.MonkeyPatch, usable: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))

    assert sharing_notice(plan) is None
