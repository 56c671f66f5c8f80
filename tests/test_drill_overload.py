"""Load above what home can serve on a running stack, an MNS that is away meanwhile, and leaders that are killed: nobody
waits long, nothing is lost or doubled, and afterwards all is home again. The times are short; `make drill` has longer
ones."""

from pathlib import Path

import pytest

from ops.drill import report
from ops.drill.pace import QUICK
from ops.drill.parts import OVERLOAD
from ops.drill.play import play


@pytest.mark.timeout(900)
def test_the_excess_goes_to_the_cloud_and_comes_back_whatever_fails_meanwhile(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    stories = play(OVERLOAD, QUICK, tmp_path / "stack", tell=told.append)
    with capsys.disabled():
        print("\n" + "\n".join(report.whole(story) for story in stories))

    assert [f"{story.name}: {fault}" for story in stories for fault in story.faults] == [], "\n".join(told)
    assert [story.name for story in stories] == [name for name in [*OVERLOAD.names, OVERLOAD.books]
                                                 if name not in QUICK.without]
