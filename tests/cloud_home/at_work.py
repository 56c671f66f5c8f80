"""For tests of the thread that hears the cloud: the thread at work, runs to report on, and what the queue's books say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from app.job import State
from app.ledger import Claim, CloudLedger, Ledger
from app.routing_rules import Rules
from app.settings import Settings
from ops.mns_server import LocalMns
from ops.waiting import wait_until
from routing.cloud import broker
from routing.cloud.hearing import Hearing
from tests.cloud_home.stand_in import Run
from tests.model_ledger import a_job

SOON_S = 20.0


@contextmanager
def hearing(settings: Settings, who: str = "queue@server-1", **more: Any) -> Iterator[Hearing]:
    """A thread that hears, for as long as the block takes."""
    one = Hearing(settings, who=who, **({"appeared": lambda _: None} | more))
    one.start()
    try:
        yield one
    finally:
        one.stop()
        one.join(10)


def sent(client: redis.Redis, settings: Settings) -> Run:
    """Submit a job and let the ledger send it; return a run of it."""
    job_id = Ledger(client, settings).submit(a_job()).job_id
    claim = CloudLedger(client, settings).send_job(job_id, decision=b"{}", rules=Rules())
    assert isinstance(claim, Claim)
    return Run(claim.id, claim.owner)


def books(mns: LocalMns, settings: Settings) -> dict[str, int]:
    """What the server counts of the reports."""
    return mns.audit(broker.results_queue(settings))


def settled(mns: LocalMns, settings: Settings) -> bool:
    """Whether no report is left in the queue, or in anybody's hands."""
    found = books(mns, settings)
    return found["active"] + found["inactive"] == 0


def wait_for(ledger: Ledger, run: Run, state: State) -> None:
    wait_until(lambda: ledger.read(run.job).state is state, timeout_s=SOON_S, what=f"job {run.job} to be {state}")
