"""Processors: one server's are kept busy, so the other one serves."""

from ops.drill.causes import burning
from ops.drill.rows.failover import comes_back, others_serve, with_work_of
from ops.drill.scene import Scene
from ops.drill.signal_row import Row, play
from ops.drill.story import Story


def cpu(scene: Scene, story: Story) -> None:
    """A busy loop on each CPU of the first server."""
    server = scene.plan.servers[0].name
    cpus = sorted({cpu for entry in scene.registry.workers() if entry.server == server for cpu in entry.cpus})
    normal, alert = scene.pace.cpu_levels
    with scene.ruled("cpu_percent", normal=normal, alert=alert), \
            with_work_of(scene, story, server, stall_s=scene.rules.thresholds["cpu_percent"].for_s + 20.0):
        play(scene, story, Row(
            signal="cpu_percent", scope=server, raising=lambda: burning(cpus),
            acted=lambda _: "model" in scene.held(server) or _all_are_busy(scene),
            meanwhile=lambda _: _others_serve(scene, story, server), normal=lambda: comes_back(scene, server)))
    story.figure("busy loops", f"{len(cpus)}, on CPU {', '.join(map(str, cpus))}")


def _all_are_busy(scene: Scene) -> bool:
    """Whether other programs keep all servers' CPUs busy, where there may be others: then nobody can take over."""
    return not scene.pace.alone and all(scene.standing(server.name) == "saturated" for server in scene.plan.servers)


def _others_serve(scene: Scene, story: Story, server: str) -> None:
    seen = Story(story.name, story.tell, began_s=story.began_s)
    if "model" in scene.held(server):
        others_serve(scene, seen, server)
    if scene.pace.alone or "model" in scene.held(server):
        story.figures |= seen.figures
        story.faults += seen.faults
    else:
        story.figure("new jobs meanwhile", "other programs keep all servers busy, so nobody could take over")
