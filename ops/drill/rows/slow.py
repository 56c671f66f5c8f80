"""Response time: answers are slow to begin, so an investigation is made and linked from the alert."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from app.routing_records import Alert
from ops.drill.callers import Waiting
from ops.drill.scene import Scene
from ops.drill.signal_row import Row, play
from ops.drill.story import Story

_SLOW, _CALLERS = "[stall 3s] late", 8
_QUICK, _PAUSE_S = "soon", 0.1  # afterwards: 40 to 80 a second, which soon are all but a twentieth of a minute's answers


def slow(scene: Scene, story: Story) -> None:
    """A slow script, and callers who wait for its first word."""
    server = scene.plan.servers[0].name
    gateway = scene.report["gateways"][server]
    report: list[str] = []
    wanted = {"the jobs that run": "== Jobs that run", "the code that they wait in": "_stall",
              **{f"the part of {each.name}": f"== {each.name} at " for each in scene.plan.servers}}

    def reported(alert: Alert) -> bool:
        now = scene.alert(alert.name, alert.scope)
        if now is None or now.investigation is None:
            return False
        report[:] = [scene.investigation(now.investigation)]
        return all(word in report[0] for word in wanted.values())

    def look(_: Alert) -> None:
        story.figure("report", f"{len(report[0].splitlines())} lines, with " + ", ".join(wanted))

    with ExitStack() as afterwards:
        play(scene, story, Row(
            signal="response_s", scope=server, raising=lambda: _slow_then_quick(scene, gateway, afterwards),
            acted=reported, meanwhile=look, normal=lambda: scene.standing(server) == "open"))


@contextmanager
def _slow_then_quick(scene: Scene, gateway: str, afterwards: ExitStack) -> Iterator[None]:
    """Callers of slow jobs, and after the block's end callers of quick ones."""
    with Waiting(lambda: scene.caller_at(gateway), _SLOW, count=_CALLERS):
        yield
    afterwards.enter_context(Waiting(lambda: scene.caller_at(gateway), _QUICK, count=_CALLERS, pause_s=_PAUSE_S))
