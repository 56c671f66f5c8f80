"""The routing task has a command bring about as many cloud workers as there should be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app import logs
from app.routing_records import Decision
from app.settings import Settings
from ops.waiting import wait_until
from routing import acting_scale
from routing.acting_scale import Scaling
from tests.clock import Clock
from tests.routing_task import Policy, task


@pytest.fixture
def ran(tmp_path: Path, settings: Settings) -> tuple[Settings, Callable[[], list[str]]]:
    """Settings with a command that notes with what it was run, and what it noted."""
    note = tmp_path / "ran"
    command = tmp_path / "scale"
    command.write_text(f'#!/bin/sh\necho "$@" >> {note}\n')
    command.chmod(0o700)
    return (replace(settings, scale_command=f"{command} --fleet far"),
            lambda: note.read_text().splitlines() if note.exists() else [])


def test_the_scale_command_is_run_with_the_number_until_there_are_so_many(
        ran: tuple[Settings, Callable[[], list[str]]]) -> None:
    (settings, noted), clock = ran, Clock()
    scaling = Scaling(settings, clock=clock)
    wishes = ((None, 0, 1), (None, 2, 1), (0, 0, 1), (2, 1, 1), (2, 1, 1), (3, 1, 1), (3, 2, 60),
              (3, 2, 1), (3, 3, 60), (1, 3, 1), (0, 1, 1))
    for workers, live, after_s in wishes:
        scaling.want(workers, live=live, every_s=60.0)
        scaling.join(10)
        clock.now_s += after_s

    assert noted() == ["--fleet far 2", "--fleet far 3", "--fleet far 3", "--fleet far 1", "--fleet far 0"]


@pytest.mark.usefixtures("client")
def test_a_scale_command_is_run_by_a_round(
        ran: tuple[Settings, Callable[[], list[str]]]) -> None:
    settings, noted = ran
    with task(settings, decide=Policy(Decision(cloud_workers=2))) as one:
        one.round()
        wait_until(noted, timeout_s=10, what="the command to have been run")
        assert noted() == ["--fleet far 2"]


@pytest.mark.parametrize(("script", "why"), [("echo no money; exit 3", "ended with 3"), ("sleep 60", "longer than 0.3 s")])
def test_a_scale_command_that_fails_or_hangs_is_logged_with_what_it_said(
        tmp_path: Path, caplog: pytest.LogCaptureFixture, script: str, why: str) -> None:
    command = tmp_path / "scale"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o700)

    assert not acting_scale.run([str(command), "2"], most_s=0.3)
    [record] = [record for record in caplog.records if record.message == "scale_command_failed"]
    assert why in record.fields["why"]
    assert "no money" in record.fields["said"] or "sleep" in script


def test_a_scale_command_that_is_not_there_is_logged(tmp_path: Path) -> None:
    before = logs.counters["scale_command_failed"]
    assert not acting_scale.run([str(tmp_path / "nothing"), "2"], most_s=5.0)
    assert logs.counters["scale_command_failed"] - before == 1
