"""Plays rows on their stacks, each story to its end or to what did not come; in the end a stack's books must balance."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.errors import TandemError
from ops.drill.pace import Pace
from ops.drill.parts import Part, Tell
from ops.drill.scene import Scene, playing
from ops.drill.story import Story


def play(part: Part, pace: Pace, folder: Path, *, only: Collection[str] = (), tell: Callable[[str], None]) -> list[Story]:
    """Return the stories of a part's rows, those of `only` if there are any; the last is that of the books."""
    stories: list[Story] = []
    with ThreadPoolExecutor() as pool, playing(folder, pace, part.edits) as scene:  # without a stack, rows end soon
        for group in part.rows:
            rows = [(name, row) for name, row in group.items() if (not only or name in only) and name not in pace.without]
            stories += [told.result() for told in [pool.submit(_told, scene, name, row, tell) for name, row in rows]]
        stories.append(_told(scene, part.books, _audit, tell))
    return stories


def _told(scene: Scene, name: str, row: Tell, tell: Callable[[str], None]) -> Story:
    story = Story(name, tell)
    try:
        row(scene, story)
    except (TandemError, TimeoutError, RuntimeError, OSError) as exc:
        story.check(False, f"{type(exc).__name__}: {exc}; the stack's logs are in {scene.sandbox.folder}")
    return story


def _audit(scene: Scene, story: Story) -> None:
    balanced, said = scene.audit()
    story.figure("audit", said)
    story.check(balanced, f"the audit does not balance: {said}")
