"""What a worker of the queue service does beside its jobs, in threads of its own: it finds lost work, delivers webhooks,
hears the cloud, measures its server, decides where jobs run, tells operators of alerts, and finds out what is slow.

Each of these goes on where another worker stops, and no trouble of one reaches the others, or the worker's jobs.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from celery import Celery

from app.model_names import ModelNames
from app.settings import Settings
from app.store import open_redis
from app.topology import Topology
from routing.alerting import AlertCourier
from routing.investigation import Investigator
from routing.recovery import Recovery
from routing.sampling import Sampler
from routing.task import Routing
from workers import resources
from workers.answer_keeping import AnswerKeeping

_GIVE_BACK_S = 4.0  # for all that is under way when the worker stops


class Duty(Protocol):
    """One of them."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Begin nothing new."""

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began."""


class QueueDuties:
    """All of them. `who` is the worker's node name."""

    def __init__(self, app: Celery, settings: Settings, plan: Topology, *, who: str) -> None:
        def tell(workers: Sequence[str], arguments: dict[str, Any]) -> None:
            app.control.broadcast("route", arguments=arguments, destination=list(workers))

        self._duties: list[Duty] = [
            Recovery(open_redis(settings), settings, who=who), Sampler(settings, plan, who=who),
            Routing(settings, plan, who=who, tell=tell), AlertCourier(settings, plan, who=who),
            Investigator(settings, plan, who=who)]
        held = resources.held()
        if held.keyring:
            from workers.delivery import Deliverer  # its HTTP client takes a tenth of a second of a worker's start

            self._duties.append(Deliverer(settings, held.keyring, worker=who))
        if settings.mns_url:
            from routing.cloud.home import Home  # nor do workers without a cloud need Alibaba's SDK

            keeping = held.keeping or AnswerKeeping(held.answers)
            self._duties.append(Home(settings, who=who, recorded=keeping.from_elsewhere(ModelNames(held.client, settings))))

    def start(self) -> None:
        """Begin."""
        for duty in self._duties:
            duty.start()

    def stop(self) -> None:
        """Begin nothing new."""
        for duty in self._duties:
            duty.stop()

    def join(self) -> None:
        """Wait for what `stop` began, for a while."""
        end_s = time.monotonic() + _GIVE_BACK_S
        for duty in self._duties:
            duty.join(max(end_s - time.monotonic(), 0.0))
