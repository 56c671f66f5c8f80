"""Users: 1,500 of them, so pools grow and another cloud worker is started; and both are taken back after them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.accounts import Accounts, Role
from app.job import Service
from app.passwords import hashed
from app.signals import WINDOW_S
from ops.drill.callers import Answer, crowd
from ops.drill.scene import Scene
from ops.drill.signal_row import Row, play
from ops.drill.story import Story

_USERS = 1600  # some more than the level: keys are made beforehand, and each user is seen for a minute
_AGAIN_S = WINDOW_S / 2  # each comes again so often, to be a user all the while


def users(scene: Scene, story: Story) -> None:
    """Each submits a job with a key of its own."""
    keys = _keys(scene)
    answers: list[Answer] = []
    before = _workers(scene)
    play(scene, story, Row(
        signal="concurrent_users", scope="all", raising=lambda: _coming(scene, keys, answers),
        acted=lambda _: _has_grown(scene, before), meanwhile=lambda _: story.figure("grown", _size(scene)),
        normal=lambda: _has_shrunk(scene, before), returns_s=scene.rules.scale_down_s * scene.rules.cloud_workers_most))
    story.figure("users", f"{len(keys)}, {len(answers)} requests")
    story.check(all(answer.is_good for answer in answers), "users were refused: " + ", ".join(sorted(
        {f"{answer.status} {answer.document.get('detail', '')}"[:80] for answer in answers if not answer.is_good})))
    story.figure("shrunk", _size(scene))


def _keys(scene: Scene) -> list[str]:
    """Make accounts with a key each. They have one password, as hashing takes its time on purpose."""
    accounts, password = Accounts(scene.client), hashed("one for all of the drill's users")
    return [accounts.add_key(accounts.add(f"drill-{number}", Role.USER, password), "drill")[0] for number in range(_USERS)]


@contextmanager
def _coming(scene: Scene, keys: list[str], answers: list[Answer]) -> Iterator[None]:
    """Have all of them come, again and again."""
    over = threading.Event()

    def come() -> None:
        while not over.is_set():
            began_s = time.monotonic()
            answers.extend(crowd(scene.report["entry"], keys, "hello"))
            over.wait(max(began_s + _AGAIN_S - time.monotonic(), 0))

    thread = threading.Thread(target=come, name="drill-users")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _slots(scene: Scene) -> dict[str, int]:
    return {entry.name: entry.slots for entry in scene.registry.workers()
            if {Service.MODEL, Service.CHAT} & set(entry.services)}


def _workers(scene: Scene) -> int:
    return sum(not worker.stopping for worker in scene.clouds.workers())


def _has_grown(scene: Scene, before: int) -> bool:
    most = {f"{spec.name}@{server.name}": spec.most for server in scene.plan.servers for spec in server.workers}
    slots = _slots(scene)
    return bool(slots) and all(number == most[name] for name, number in slots.items()) and _workers(scene) > before


def _has_shrunk(scene: Scene, before: int) -> bool:
    first = {f"{spec.name}@{server.name}": spec.concurrency for server in scene.plan.servers for spec in server.workers}
    return all(number == first[name] for name, number in _slots(scene).items()) and _workers(scene) == before


def _size(scene: Scene) -> str:
    slots = ", ".join(f"{name} {number}" for name, number in sorted(_slots(scene).items()))
    return f"slots {slots}; cloud workers {_workers(scene)}"
