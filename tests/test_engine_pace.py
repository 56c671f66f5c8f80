"""How much of the prompts is read at a time; and how much memory a container leaves."""

from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.host_memory import free_memory
from workers.engine.pace import Pace

times = st.floats(1e-6, 10.0)


def test_those_who_are_answered_wait_for_about_a_tenth_of_a_second_and_nobody_for_half_a_second() -> None:
    pace = Pace(pass_s=0.02, token_s=0.001, step_s=0.05)

    assert pace.tokens(reading=1, running=100) == pytest.approx(80, abs=2)
    assert pace.tokens(reading=5, running=0) == 480
    assert pace.tokens(reading=50, running=1) == 480


def test_few_who_are_answered_wait_for_many_to_be_read_and_many_do_not_wait_for_few() -> None:
    pace = Pace(pass_s=0.05, token_s=0.001, step_s=0.1)

    assert not pace.step_is_due(0.5, reading=8, running=8)
    assert pace.step_is_due(0.7, reading=8, running=8)
    assert pace.step_is_due(0.1, reading=1, running=8)
    assert pace.step_is_due(0.0, reading=0, running=1)
    assert pace.step_is_due(1.0, reading=1000, running=1), "nobody waits for longer than a second"


@given(pass_s=times, token_s=times, step_s=times, reading=st.integers(1, 64), running=st.integers(0, 64))
def test_a_pass_reads_enough_to_be_worth_it_and_never_without_bound(
        pass_s: float, token_s: float, step_s: float, reading: int, running: int) -> None:
    tokens = Pace(pass_s, token_s, step_s).tokens(reading=reading, running=running)

    assert 16 <= tokens <= 4096
    assert tokens == 4096 or (tokens + 1) * token_s >= pass_s, "at least half of a pass is reading"


def test_the_costs_follow_what_is_measured_and_a_hiccup_tells_little() -> None:
    pace = Pace(pass_s=0.1, token_s=0.01)
    for _ in range(50):
        pace.learn_pass(100, 0.55)
    assert pace.pass_s + 100 * pace.token_s == pytest.approx(0.55, rel=0.01)

    pace.learn_pass(100, 600.0)
    assert pace.pass_s + 100 * pace.token_s < 0.7


@pytest.mark.parametrize(("limit", "used"), [
    ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")])
def test_a_containers_limit_bounds_what_is_free(tmp_path: Path, limit: str, used: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("5000\n")
    (tmp_path / used).write_text("2000\n")

    assert free_memory(tmp_path) == 3000


def test_a_container_without_a_limit_has_what_its_host_has(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("2000\n")

    assert free_memory(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
