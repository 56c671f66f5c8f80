"""The sampler: measures its server once a second, and tells the routing task.

Each server has one, in the process of its queue worker. Whatever cannot be measured is told as not known, and what is not
told any more is forgotten: an outage of Redis only makes a server unheard of for as long.
"""

import time
from pathlib import Path

import redis

from app.ledger.scripts import unavailable
from app.registry import Registry
from app.rounds import Rounds
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signal_times import merged, times
from app.signals import GatewayReport, ServerSignals
from app.store import open_redis
from app.topology import Topology
from app.worker_entry import WorkerEntry
from routing.load import ProcessorLoad, processors_of, read_ticks, usable_cpus
from routing.memory import memory_percent

#: Between two samples: a third or less of what a sample is believed for.
SAMPLE_S = 1.0

_STAT = Path("/proc/stat")


class Sampler:
    """Measures one server, in a thread of its own. `who` is the queue worker, for the log."""

    def __init__(self, settings: Settings, plan: Topology, *, who: str) -> None:
        self._server = plan.server(settings.server)
        self._client = open_redis(settings)
        self._board = SignalBoard(self._client)
        self._registry = Registry(self._client)
        self._processors = processors_of(self._server, usable_cpus())
        self._load = ProcessorLoad()
        self._rounds = Rounds(self.sample, every_s=SAMPLE_S, name="sampling", who=who)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> None:
        """End after the present sample."""
        self._rounds.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the present sample, and hang up."""
        self._rounds.join(timeout_s)
        self._client.close()

    def sample(self) -> ServerSignals:
        """Measure the server now, and tell. Raises `StoreUnavailable`."""
        self._load.note(time.monotonic(), read_ticks(_STAT.read_text()))
        name = self._server.name
        mask = {cpu for cpus in self._processors.values() for cpu in cpus}
        busy = {label: self._load.percent(cpus) for label, cpus in self._processors.items()}
        signals = told(
            ServerSignals(server=name, at_ms=self._board.now_ms(), cpu_percent=self._load.percent(mask),
                          processors={label: percent for label, percent in busy.items() if percent is not None},
                          memory_percent=memory_percent()),
            self._board.gateways(name), self._workers())
        self._board.put_server(signals)
        return signals

    def _workers(self) -> list[WorkerEntry]:
        try:
            return [worker for worker in self._registry.workers() if worker.server == self._server.name]
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc


def told(machine: ServerSignals, gateways: list[GatewayReport], workers: list[WorkerEntry]) -> ServerSignals:
    """Return what is told of a server: how its machine is, what its gateways measured, and what its workers say."""
    return ServerSignals(
        server=machine.server, at_ms=machine.at_ms, cpu_percent=machine.cpu_percent, processors=machine.processors,
        memory_percent=machine.memory_percent,
        calls=times(merged(each.calls for each in gateways)) if gateways else None,
        answers=times(merged(each.answers for each in gateways)) if gateways else None,
        requests=sum(each.requests for each in gateways), requests_failed=sum(each.requests_failed for each in gateways),
        attempts=sum(each.attempts for each in workers), attempts_failed=sum(each.attempts_failed for each in workers),
        workers=tuple(each.name for each in workers),
        held=tuple(sorted({service.value for each in workers for service in each.held})))
