"""For tests of a cloud worker's parts: a box that stands for MNS, and a desk where errands are taken."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from app.settings import Settings
from ops.waiting import wait_until
from routing.cloud import words
from routing.cloud.post import NotPosted, PerhapsPosted, TooLargeToPost
from tests.clock import Clock
from workers.cloud import run
from workers.cloud.courier import Courier
from workers.cloud.node import CloudNode
from workers.engine import Engine
from workers.engine.scripted import ScriptedEngine

Kind = TypeVar("Kind", bound=words.Word)

QUICK = Settings(engine="scripted", cloud_say_s=0.02, cloud_beat_s=5.0, retry_delay_s=2.0, shutdown_s=1.0)
TICKET, RUN = "0f" * 16, "0f" * 16 + ".12345678"
NAMES = {"job": "0190" + "a" * 32, "ticket": TICKET, "run": RUN}


class Box:
    """Stands for MNS: keeps the reports that it is sent. It may be away, mute (its answers are lost), or small."""

    def __init__(self) -> None:
        self.reports: list[words.Report] = []
        self.away = self.mute = False
        self.most: int | None = None  # words in a report
        self.tries = 0
        self.closed = False

    def send(self, queue: str, task: str, arguments: dict[str, Any], *, message_id: str) -> None:  # noqa: ARG002
        assert (queue, task) == ("tandem-results", "cloud.report")
        self.tries += 1
        if self.away:
            raise NotPosted("away")
        report = msgspec.convert(json.loads(json.dumps(arguments))["report"], words.Report)
        if self.most is not None and len(report.words) > self.most:
            raise TooLargeToPost("too large")
        self.reports.append(report)
        if self.mute:
            raise PerhapsPosted("the answer was lost")

    def close(self) -> None:
        self.closed = True

    def waits(self) -> None:
        """Wait until it was tried once more."""
        before = self.tries
        wait_until(lambda: self.tries > before, timeout_s=10, what="another try", every_s=0.01)

    @property
    def heard(self) -> list[words.Word]:
        """All words that came, in order."""
        return [word for report in list(self.reports) for word in report.words]

    def came(self, kind: type[Kind]) -> Kind:
        """The first word of a kind, once there is one."""
        return wait_until(lambda: next((word for word in self.heard if isinstance(word, kind)), None), timeout_s=10,
                          what=f"a word {kind.__name__}", every_s=0.01)


@contextmanager
def courier_to(box: Box, settings: Settings = QUICK) -> Iterator[Courier]:
    """A courier at work."""
    courier = Courier(settings, box, lambda: words.Worker(name="cloud@x", processor="", slots=2, busy=0, engine="scripted"))
    courier.start()
    try:
        yield courier
    finally:
        courier.stop(within_s=10)
        assert box.closed


class Desk:
    """A cloud worker's node at work, with threads that take errands."""

    def __init__(self, box: Box, engine: Engine) -> None:
        self.clock = Clock()
        self.node = CloudNode(QUICK, engine, name="cloud@x", slots=4, processors=("P11",), post=box,
                              clock=self.clock)
        self.threads = ThreadPoolExecutor(4)

    def take(self, script: str, message: str | None = "M1", **members: Any) -> "Future[str]":
        """Have an errand taken, which is `errand` with these members."""
        arguments = words.body("errand", msgspec.structs.replace(errand(script), **members))
        return self.threads.submit(run.take, arguments, message, self.node)

    def begun(self) -> str:
        """The id of the one run that is in progress, once there is one."""
        return wait_until(lambda: next((each.id for each in list(self.node._runs.values())), None), timeout_s=10,
                          what="a run", every_s=0.005)


def errand(script: str) -> words.Errand:
    """An errand for the scripted engine."""
    return words.Errand(job=NAMES["job"], ticket=TICKET, task="model.generate", input=json.dumps({"prompt": script}))


@contextmanager
def desk_at(box: Box, engine: Engine | None = None) -> Iterator[Desk]:
    """A desk, at work; the scripted engine if no other is given."""
    one = Desk(box, engine or ScriptedEngine())
    one.node.courier.start()
    try:
        yield one
    finally:
        for running in list(one.node._runs.values()):
            running.stop.set()
        box.away = False
        one.threads.shutdown()
        one.node.courier.stop(within_s=10)
