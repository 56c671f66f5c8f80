"""What must be so when a server takes nothing new: others serve, it finishes what it has, and it comes back."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.job import State
from ops.drill.scene import Scene
from ops.drill.story import Story
from ops.waiting import wait_until

_NEW = 20  # jobs that are submitted while the server takes nothing new
_LONG = 64  # long jobs at most, until the server has two of them
_FEW = 2


def others_serve(scene: Scene, story: Story, server: str) -> None:
    """While the server takes nothing new, all new jobs are run by others, with the first attempt."""
    with scene.caller as caller:
        ids = [str(caller.submit("hello").document["id"]) for _ in range(_NEW)]
    jobs = scene.ended(ids)
    story.check(all(job.state is State.SUCCEEDED for job in jobs), "not all new jobs succeeded")
    story.check(not any(job.server == server for job in jobs), f"new jobs were run by {server}, which takes nothing new")
    story.figure("new jobs meanwhile", f"{sum(job.server != server for job in jobs)} of {_NEW} elsewhere")
    story.check(scene.standing(server) == "saturated", f"{server} is {scene.standing(server)}, not saturated")


def comes_back(scene: Scene, server: str) -> bool:
    """Whether the server takes new jobs again: nothing of it is held, it is open, and it has run a job just now."""
    if scene.held(server) or scene.standing(server) != "open":
        return False
    with scene.caller as caller:
        ids = [str(caller.submit("hello").document["id"]) for _ in range(_NEW)]
    return any(job.server == server for job in scene.ended(ids))


@contextmanager
def with_work_of(scene: Scene, story: Story, server: str, *, stall_s: float) -> Iterator[None]:
    """Have the server run some long jobs when the block begins. It must have finished them, with the first attempt."""
    ids: list[str] = []

    def has_some() -> bool:
        running = [job for job in map(scene.job, ids) if job.state is State.RUNNING]
        if sum(job.server == server for job in running) >= _FEW:
            return True
        if len(ids) < _LONG and len(running) == len(ids):
            with scene.caller as caller:
                ids.append(str(caller.submit(f"[stall {stall_s:g}s] done").document["id"]))
        return False

    wait_until(has_some, timeout_s=30.0, what=f"{server} to run two long jobs")
    yield
    mine = [job for job in scene.ended(ids) if job.server == server]
    story.figure("long jobs it had", f"{sum(job.state is State.SUCCEEDED and job.attempt == 1 for job in mine)} of "
                                     f"{len(mine)} finished")
    story.check(len(mine) >= _FEW and all(job.state is State.SUCCEEDED and job.attempt == 1 for job in mine),
                f"{server} did not finish the jobs that it had")
