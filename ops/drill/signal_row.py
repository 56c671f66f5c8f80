"""One row of the threshold table: a signal is raised, its alert opens, its action comes into force, the signal ends, and
all is as before."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from app.routing_records import Alert
from app.signals import WINDOW_S
from ops.drill.scene import Scene
from ops.drill.story import Step, Story
from ops.waiting import wait_until

#: What is given to each step beyond the times of the thresholds: for a busy machine.
PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`raising` raises the signal as long as it is entered. `acted` says whether the action is in force, `normal` whether
    all is as before; `meanwhile` looks at what else must be so while the action is in force."""

    signal: str
    scope: str  # the server, or "all"
    raising: Callable[[], AbstractContextManager[object]]
    acted: Callable[[Alert], object]
    meanwhile: Callable[[Alert], None]
    normal: Callable[[], object]
    returns_s: float = field(default=0.0)  # what the way back may take beyond the closing of the alert


def play(scene: Scene, story: Story, row: Row) -> None:
    """Do it. Raises `TimeoutError` naming the step that did not come."""
    threshold = scene.rules.thresholds[row.signal]
    gauge = f"{row.signal}@{row.scope}"
    wait_until(lambda: scene.gauge(gauge).value is not None and not scene.alert(row.signal, row.scope),
               timeout_s=threshold.hold_s + PATIENCE_S, what=f"{gauge} to be known, and in no alert")
    story.begin()
    with row.raising():
        story.wait(Step.OVER, lambda: (scene.gauge(gauge).value or 0.0) >= threshold.alert, timeout_s=WINDOW_S + PATIENCE_S)
        story.figure("value", scene.gauge(gauge).value)
        alert = story.wait(Step.OPENED, lambda: scene.alert(row.signal, row.scope), timeout_s=threshold.for_s + PATIENCE_S)
        story.wait(Step.ACTED, lambda: row.acted(alert), timeout_s=PATIENCE_S)
        row.meanwhile(alert)
        story.check(not (missing := scene.shows(alert)), f"{alert.id} is not shown by {', '.join(missing)}")
    story.mark(Step.ENDED)
    story.wait(Step.CLOSED, lambda: scene.is_closed(alert), timeout_s=WINDOW_S + threshold.hold_s + PATIENCE_S)
    story.wait(Step.NORMAL, row.normal, timeout_s=row.returns_s + PATIENCE_S)
