"""Memory: one server's is filled, in a memory group of its own; the machine's, where no such group can be made."""

from app.routing_records import Alert
from ops.drill.causes import MemoryRoom, NoRoom, filling
from ops.drill.rows.failover import comes_back, others_serve
from ops.drill.scene import Scene
from ops.drill.signal_row import Row, play
from ops.drill.story import Story
from ops.waiting import wait_until

_ROOM_BYTES = 768 * 2**20
_FILLED = 0.92  # of the room, with what the server's processes use; over the alert level, and short of the kernel's killing
_BALLAST_BYTES = 400 * 2**20  # where the whole machine's memory is watched
_ABOVE_PERCENT = 0.5  # how far the level is set over what is in use


def memory(scene: Scene, story: Story) -> None:
    """Ballast, every page of it touched."""
    server = scene.plan.servers[0].name
    try:
        with MemoryRoom.of(f"tandem-drill-{scene.report['pids'][server]}", scene.pids_of(server), _ROOM_BYTES) as room:
            story.figure("ballast", f"in a memory group of {_ROOM_BYTES >> 20} MiB with {server}'s processes")
            _in_a_room(scene, story, server, room)
    except NoRoom as exc:
        story.figure("ballast", f"{_BALLAST_BYTES >> 20} MiB of the machine, with the level lowered: {exc}")
        _on_the_machine(scene, story, server)


def _in_a_room(scene: Scene, story: Story, server: str, room: MemoryRoom) -> None:
    play(scene, story, Row(
        signal="memory_percent", scope=server,
        raising=lambda: filling(round(_FILLED * _ROOM_BYTES) - room.used_bytes(), room),
        acted=lambda _: "model" in scene.held(server), meanwhile=lambda _: others_serve(scene, story, server),
        normal=lambda: comes_back(scene, server)))


def _on_the_machine(scene: Scene, story: Story, server: str) -> None:
    """All servers' memory is the same here, so no other one can take over: the alert and the server's standing are all
    that is to be seen."""
    gauge = f"memory_percent@{server}"
    now = wait_until(lambda: scene.gauge(gauge).value, timeout_s=30.0, what=f"{gauge} to be known") or 0.0

    def saturated(_: Alert) -> bool:
        return scene.standing(server) == "saturated"

    with scene.ruled("memory_percent", normal=now + _ABOVE_PERCENT / 2, alert=now + _ABOVE_PERCENT):
        play(scene, story, Row(
            signal="memory_percent", scope=server, raising=lambda: filling(_BALLAST_BYTES), acted=saturated,
            meanwhile=lambda _: None, normal=lambda: comes_back(scene, server)))
