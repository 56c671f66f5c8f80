"""Every row of the threshold table on a running stack: the signal is really raised, the alert opens, the action is done,
and after it is over all is as before. The times are short; `make drill` has the shipped ones."""

from pathlib import Path

import pytest

from ops.drill import report
from ops.drill.pace import QUICK
from ops.drill.parts import SIGNALS
from ops.drill.play import play
from ops.drill.story import Step


@pytest.mark.timeout(900)
def test_every_signal_leads_to_its_action_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    stories = play(SIGNALS, QUICK, tmp_path / "stack", tell=told.append)
    with capsys.disabled():
        print("\n" + report.table(stories[:-1]))

    assert [f"{story.name}: {fault}" for story in stories for fault in story.faults] == [], "\n".join(told)
    assert [story.name for story in stories] == [*SIGNALS.names, SIGNALS.books]
    assert all(list(story.steps) == list(Step) for story in stories[:-1])
