"""Errors: the model server behind one server answers 500, so the other one serves."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from app.job import State
from ops.drill.callers import Steady
from ops.drill.causes import ModelServer, in_place_of
from ops.drill.rows.failover import comes_back, others_serve
from ops.drill.scene import Scene
from ops.drill.signal_row import Row, play
from ops.drill.story import Story
from ops.server import run_folder
from ops.waiting import wait_until

_PER_S = 10.0
_STARTS_S = 60.0  # for a worker


def errors(scene: Scene, story: Story) -> None:
    """The first server's model worker has a model server of its own, which breaks, and is mended."""
    server = scene.plan.servers[0].name
    with ModelServer.running() as upstream, _worker_of(scene, server, upstream):
        asked: list[str] = []
        play(scene, story, Row(
            signal="error_percent", scope=server, raising=lambda: _breaking(scene, upstream, asked),
            acted=lambda _: "model" in scene.held(server), meanwhile=lambda _: others_serve(scene, story, server),
            normal=lambda: comes_back(scene, server)))
    jobs = scene.ended(asked)
    retried = sum(job.attempt > 1 for job in jobs)
    failed = [job for job in jobs if job.state is not State.SUCCEEDED]
    story.figure("jobs while it was broken", f"{len(jobs)}; {retried} needed another attempt, {len(failed)} failed all of "
                                             f"{scene.settings.max_attempts}")
    story.check(retried, "no job met the broken model server")


@contextmanager
def _breaking(scene: Scene, upstream: ModelServer, asked: list[str]) -> Iterator[None]:
    """Break the model server and have jobs come, until the block's end."""
    upstream.is_broken = True
    try:
        with Steady(lambda: scene.caller, "hello", per_s=_PER_S) as steady:
            yield
    finally:
        upstream.is_broken = False
        asked += steady.load.ids


@contextmanager
def _worker_of(scene: Scene, server: str, upstream: ModelServer) -> Iterator[None]:
    """Have the server's model worker call that model server, as long as the block takes."""
    name = f"model@{server}"
    entry = scene.worker(name)
    assert entry, f"{name} does not live"
    folder = run_folder(scene.settings, scene.plan.server(server))
    control = [sys.executable, "-W", "ignore::UserWarning", "-m", "supervisor.supervisorctl", "--configuration",
               str(folder / "supervisord.conf")]
    # the engine calls once more after a fault, not for half a minute: an attempt is to end while the drill looks
    settings = {"TANDEM_ENGINE": "openai", "TANDEM_OPENAI_URL": upstream.url, "TANDEM_OPENAI_MODEL": "drill",
                "TANDEM_OPENAI_RETRY_S": "0.2", "TANDEM_OPENAI_BREAKER_COOLDOWN_S": "0.1"}
    with in_place_of(entry.pid, [*control, "stop", f"{server}:model"], [*control, "start", f"{server}:model"],
                     folder / "model-drill.log", **settings) as pid:
        wait_until(lambda: (now := scene.worker(name)) and now.pid == pid, timeout_s=_STARTS_S, what=f"{name} to start")
        yield
    wait_until(lambda: (now := scene.worker(name)) and now.pid not in (pid, entry.pid), timeout_s=_STARTS_S,
               what=f"{name} to start again")
