"""The leader's gathering: all that is known at this moment, as one record for the policy.

Each server tells of itself (`routing.sampling`); the queues, the callers and the cloud are looked up here: a few round
trips to Redis, and no more work than that, however many jobs there are.
"""

from collections.abc import Mapping, Sequence

import redis

from app import cloud_state, queues
from app.cloud_state import Cloud
from app.job import Service
from app.ledger import CloudLedger
from app.ledger.scripts import unavailable
from app.queues import Queue
from app.registry import Registry
from app.routing_rules import Rules
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signals import CloudSignals, Signals
from app.topology import Topology
from app.worker_entry import WorkerEntry
from routing.rates import Rates

_MISSED_BEATS = 3  # a worker that missed so many is not counted on, long before its entry goes


class Gathering:
    """Gathers for one leader; it remembers what was counted over the last seconds."""

    def __init__(self, client: redis.Redis, settings: Settings, plan: Topology) -> None:
        self._client = client
        self._settings = settings
        self._servers = [server.name for server in plan.servers]
        self._board = SignalBoard(client)
        self._registry = Registry(client)
        self._cloud = CloudLedger(client, settings)
        self._rates = Rates()

    def gather(self, rules: Rules) -> Signals:
        """Return what is known now. Raises `StoreUnavailable`."""
        now_ms, lines = self._board.now_ms(), queues.read(self._client)
        counts, served, paces, workers = self._read()
        self._rates.note(now_ms / 1000, served, {service for service, line in lines.items() if line.waiting})
        slots = self._slots(workers, lines, now_ms)
        return Signals(
            at_ms=now_ms, servers=self._board.servers(self._servers), users=self._board.users(),
            queues={service.value: self._rates.told(service, line, slots=slots[service], pace_s=paces.get(service.value))
                    for service, line in lines.items()},
            cloud=self._of_cloud(rules, lines, counts, paces.get("cloud")))

    def _read(self) -> tuple[dict[str, int], dict[str, int], dict[str, float], list[WorkerEntry]]:
        """Return what the ledger counted, the jobs that ended at home by service, the paces in seconds, and the workers."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for key in ("counts", "served", "pace"):
                    pipeline.hgetall(key)
                counts, served, paces = ({name.decode(): value for name, value in table.items()}
                                         for table in pipeline.execute())
            return ({name: int(value) for name, value in counts.items()},
                    {name: int(value) for name, value in served.items()},
                    {name: float(value) / 1000 for name, value in paces.items()}, self._registry.workers())
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def _slots(self, workers: Sequence[WorkerEntry], lines: Mapping[Service, Queue], now_ms: int) -> dict[Service, int]:
        """Return how many slots of workers that beat take new jobs of each service. Of workers for several services, these
        are the slots that jobs of the others do not take; always one, as those end."""
        since_ms = now_ms - _MISSED_BEATS * self._settings.beat_s * 1000
        slots = {}
        for service in Service:
            open_ = [worker for worker in workers if service in worker.services and service not in worker.held
                     and worker.beat_ms >= since_ms]
            shared = sum(worker.slots for worker in open_ if len(worker.services) > 1)
            taken = sum(line.running - line.in_cloud for other, line in lines.items() if other is not service)
            slots[service] = (sum(worker.slots for worker in open_ if len(worker.services) == 1)
                              + (max(shared - taken, 1) if shared else 0))
        return slots

    def _of_cloud(self, rules: Rules, lines: Mapping[Service, Queue], counts: Mapping[str, int],
                  pace_s: float | None) -> CloudSignals | None:
        found: Cloud | None = cloud_state.read(self._client, self._settings, lines)
        if found is None:
            return None
        spend = self._cloud.spend(rules)
        serving = [worker for worker in found.workers if not worker.stopping]
        return CloudSignals(
            reachable=found.reachable, workers=len(serving), sent=found.sent, running=found.running, pace_s=pace_s,
            slots=sum(worker.slots for worker in serving),
            posts=counts.get("posts", 0), posts_failed=counts.get("posts_failed", 0), begun=counts.get("begun", 0),
            lapsed=counts.get("lapsed", 0), succeeded=counts.get("cloud_succeeded", 0),
            failed=counts.get("cloud_failed", 0) + counts.get("returned", 0), jobs_left=spend.jobs_left,
            money_left=spend.money_left, money_hour=spend.money_hour, jobs_minute=spend.jobs_minute,
            job_cost=spend.job_cost)
