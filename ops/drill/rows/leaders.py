"""The leader is killed while jobs overflow, again and again: another leads within seconds, and no job is sent twice with
effect."""

import time

from app.routing_records import Shown
from ops.drill.books import Books
from ops.drill.callers import Steady
from ops.drill.rows.overload import PER_S, PROMPT, calm, is_calm, sound
from ops.drill.scene import Scene
from ops.drill.signal_row import PATIENCE_S
from ops.drill.story import Story
from ops.sandbox import kill
from ops.waiting import wait_until

_WITHIN_S = 5.0  # another acts


def leaders(scene: Scene, story: Story) -> None:
    """SIGKILL, each time the one that was killed before lives again."""
    began_s = scene.now_s()
    calm(scene)
    took_s: list[float] = []
    with Steady(lambda: scene.caller, PROMPT, per_s=PER_S) as steady:
        wait_until(lambda: (shown := scene.shown()) and shown.signals.cloud and shown.signals.cloud.running,
                   timeout_s=PATIENCE_S, what="jobs to overflow")
        story.begin()
        for _ in range(scene.pace.leaders):
            took_s.append(_kill_leader(scene, story))
    story.figure("until another led (s)", ", ".join(f"{each:.1f}" for each in took_s))
    story.check(max(took_s) <= _WITHIN_S, f"it took {max(took_s):.1f} s until another led")
    books = Books.of(scene, steady.load.ids, began_s)
    story.wait("calm, nothing left in the cloud", lambda: is_calm(scene), timeout_s=2 * PATIENCE_S)
    story.figure("jobs", f"{len(books.jobs)}, of which {books.in_cloud} in the cloud")
    sound(story, books, steady.load)


def _kill_leader(scene: Scene, story: Story) -> float:
    """Kill it; return the seconds until a round of another was shown."""
    before = _round(scene, epoch_above=0)
    victim = scene.worker(before.leader)
    assert victim, f"{before.leader} leads and does not live"
    kill(victim.pid)
    killed_s = time.monotonic()
    after = _round(scene, epoch_above=before.epoch)
    took_s = time.monotonic() - killed_s
    story.mark(f"{before.leader} killed, {after.leader} leads after {took_s:.1f} s")
    wait_until(lambda: (now := scene.worker(before.leader)) and now.pid != victim.pid, timeout_s=PATIENCE_S,
               what=f"{before.leader} to live again")
    return took_s


def _round(scene: Scene, *, epoch_above: int) -> Shown:
    """Wait for a round of a later epoch."""
    def later() -> Shown | None:
        shown = scene.shown()
        return shown if shown and shown.epoch > epoch_above else None

    found = wait_until(later, timeout_s=PATIENCE_S, what=f"a round of an epoch after {epoch_above}")
    assert found
    return found
