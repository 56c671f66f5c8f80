"""Which workers live, as they say themselves every few seconds (`Ledger.register`).

An entry that is not renewed disappears. Pins are what the kernel answered to the worker, not what was asked for.
"""

import msgspec
import redis

from app import logs
from app.job import Service
from app.worker_entry import Figures, WorkerEntry

#: An entry lives this long after the worker's last word: a few beats, so that one late beat is not a death.
ENTRY_LIFE_S = 15.0


class Registry:
    """Reads the workers' entries."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def workers(self) -> list[WorkerEntry]:
        """Return the live workers, by name; forget the dead ones."""
        names = sorted(name.decode() for name in self._client.zrange("workers", 0, -1))
        with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(f"worker:{name}")
            records = pipeline.execute()
        gone = [name for name, record in zip(names, records, strict=True) if not record]
        if gone:
            self._client.zrem("workers", *gone)
        entries = [_entry(name, record) for name, record in zip(names, records, strict=True) if record]
        return [entry for entry in entries if entry is not None]

    def ask_to_restart(self, worker: WorkerEntry) -> None:
        """Leave a note that this very process should restart itself; it reads it, once, with its next beat."""
        self._client.set(f"restart:{worker.name}", worker.pid, px=round(ENTRY_LIFE_S * 1000))

    def set_windows(self, workers: list[WorkerEntry]) -> None:
        """Tell the ledger how many slots each service has, in workers that take what is new, and so how short its Celery
        queue may be: twice that. Where none does, it stays as it was."""
        for service, slots in _slots(workers).items():
            if slots:
                self._client.hset("slots", service.value, slots)
                self._client.hset("windows", service.value, 2 * slots)

    def windows_are_set(self, workers: list[WorkerEntry]) -> bool:
        """Tell whether the ledger counts the slots of all these workers: the leader of recovery sees to that within 2 s."""
        known = {service.decode(): int(slots) for service, slots in self._client.hgetall("slots").items()}
        return all(known.get(service.value) == slots for service, slots in _slots(workers).items() if slots)


def _slots(workers: list[WorkerEntry]) -> dict[Service, int]:
    """Count the slots of each service, in workers that take what is new."""
    return {service: sum(worker.slots for worker in workers if service in worker.services and service not in worker.held)
            for service in Service}


def _entry(name: str, record: dict[bytes, bytes]) -> WorkerEntry | None:
    """Return a worker's entry, or None for one that cannot be read, as another version of Tandem might leave."""
    try:
        return _read_entry(name, {key.decode(): value.decode(errors="replace") for key, value in record.items()})
    except (KeyError, ValueError, msgspec.MsgspecError) as exc:
        logs.event("worker_entry_unreadable", worker=name, why=f"{type(exc).__name__}: {exc}")
        return None


def _read_entry(name: str, text: dict[str, str]) -> WorkerEntry:
    return WorkerEntry(
        name=name, server=text["server"], services=tuple(Service(part) for part in text["services"].split(",")),
        pid=int(text["pid"]), host=text["host"], processors=tuple(text["processors"].split(",")),
        cpus=tuple(int(part) for part in text["cpus"].split(",")), slots=int(text["slots"]), busy=int(text["busy"]),
        idle_ms=int(text["idle_ms"]), beat_ms=int(text["beat_ms"]),
        figures=_read_figures(name, text.get("figures", "{}")),
        held=tuple(Service(part) for part in text.get("held", "").split(",") if part),
        attempts=int(text.get("attempts", 0)), attempts_failed=int(text.get("attempts_failed", 0)))


def _read_figures(name: str, text: str) -> Figures:
    """Return a worker's own figures, none where they cannot be read: it lives all the same."""
    try:
        return msgspec.json.decode(text, type=Figures)
    except msgspec.MsgspecError as exc:
        logs.event("worker_figures_unreadable", worker=name, why=str(exc))
        return {}
