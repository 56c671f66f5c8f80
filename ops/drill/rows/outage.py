"""MNS is away while jobs overflow: they stay, or come home; callers wait longer and see nothing else; an alert says so; and
when MNS is back it is probed, and then used as before."""

import json
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from app.routing_records import BreakerState
from ops.drill.books import Books
from ops.drill.callers import Answer, Steady, Waiting
from ops.drill.rows.overload import PROMPT, calm, is_calm, sound
from ops.drill.scene import Scene
from ops.drill.signal_row import PATIENCE_S
from ops.drill.story import Story
from ops.sandbox import kill
from ops.waiting import wait_until

_PER_S = 4.5  # not much more than home serves: what waits meanwhile is to be done soon afterwards
_WAITING = 3  # callers who wait for their answers
_ADMIN_S = 10.0


def frozen(scene: Scene, story: Story) -> None:
    """Its process is stopped: nothing that is asked of it is answered."""
    _outage(scene, story, _frozen(scene))


def unwell(scene: Scene, story: Story) -> None:
    """It answers everything by 503."""
    _outage(scene, story, _unwell(scene))


@contextmanager
def _frozen(scene: Scene) -> Iterator[None]:
    pid = int(scene.report["pids"]["mns"])
    kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        kill(pid, signal.SIGCONT)


@contextmanager
def _unwell(scene: Scene) -> Iterator[None]:
    _tell_mns(scene, "POST", {"status": 503, "code": "ServiceUnavailable"})
    try:
        yield
    finally:
        _tell_mns(scene, "DELETE", None)


def _tell_mns(scene: Scene, method: str, body: object) -> None:
    request = urllib.request.Request(f"{scene.report['mns']['admin']}/faults", method=method,
                                     data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=_ADMIN_S):
        pass


def _outage(scene: Scene, story: Story, away: AbstractContextManager[None]) -> None:
    calm(scene)
    began_s = scene.now_s()
    with Steady(lambda: scene.caller, PROMPT, per_s=_PER_S) as steady, \
            Waiting(lambda: scene.caller, PROMPT, count=_WAITING) as waiting:
        wait_until(lambda: _running(scene), timeout_s=PATIENCE_S, what="jobs to overflow")
        story.begin()
        with away:
            story.wait("nothing more is sent", lambda: _breaker(scene) is BreakerState.OPEN, timeout_s=PATIENCE_S)
            alert = story.wait("alert opened", lambda: scene.alert("cloud-unreachable", "cloud"), timeout_s=PATIENCE_S)
            story.check(not (missing := scene.shows(alert)), f"{alert.id} is not shown by {', '.join(missing)}")
            wait_until(lambda: story.now_s() >= scene.pace.outage_s, timeout_s=PATIENCE_S, what="the outage to last")
        story.mark("MNS is back")
        story.wait("breaker closed, after probes", lambda: _breaker(scene) is BreakerState.CLOSED, timeout_s=PATIENCE_S)
        story.wait("alert closed", lambda: scene.is_closed(alert), timeout_s=PATIENCE_S)
    books = Books.of(scene, steady.load.ids, began_s)
    story.wait("calm, nothing left in the cloud", lambda: is_calm(scene), timeout_s=2 * PATIENCE_S)
    states = [change.after for change in scene.changes(began_s) if change.what == "breaker"]
    story.figure("breaker", ", ".join(states))
    story.check("half-open" in states, "the cloud was not probed before it was used again")
    sound(story, books, steady.load)
    _tell_of_callers(story, books, waiting.answers)


def _tell_of_callers(story: Story, books: Books, answers: Sequence[Answer]) -> None:
    """They waited, and saw nothing else."""
    bad = {f"{answer.status} {answer.document.get('detail', '')}"[:80] for answer in answers if not answer.is_good}
    story.figure("callers", f"{len(books.jobs)} jobs, and {len(answers)} answers that were waited for; the longest wait "
                            f"until a job began was {max(books.waits_s()):.1f} s")
    story.check(not bad, "callers saw errors: " + ", ".join(sorted(bad)))


def _running(scene: Scene) -> int:
    shown = scene.shown()
    return shown.signals.cloud.running if shown and shown.signals.cloud else 0


def _breaker(scene: Scene) -> BreakerState | None:
    shown = scene.shown()
    return shown.remembered.breaker.state if shown else None
