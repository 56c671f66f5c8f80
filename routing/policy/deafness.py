"""Which workers live but have stopped consuming."""

from collections.abc import Mapping, Sequence

from app.job import Service
from app.worker_entry import WorkerEntry


def deaf_workers(workers: Sequence[WorkerEntry], unheeded_ms: Mapping[Service, int], *,
                 stuck_ms: int) -> list[WorkerEntry]:
    """Return the workers that live but have stopped consuming: idle and without a claim for `stuck_ms`, while a wake-up of
    a service of theirs has lain in its queue at least as long.

    Seen with Celery on Redis: an acknowledgement lost in a broker restart leaves a worker alive that never takes another
    message. `unheeded_ms` holds, for each service with waiting jobs, how long the oldest wake-up has lain in its queue.
    What a worker was told to leave alone, it rightly leaves alone.
    """
    return [worker for worker in workers
            if worker.busy == 0
            and worker.idle_ms >= stuck_ms
            and any(unheeded_ms.get(service, 0) >= stuck_ms for service in worker.services
                    if service not in worker.held)]
