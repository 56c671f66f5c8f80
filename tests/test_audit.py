"""The audit finds what is amiss, and nothing where all is well."""

import pytest
import redis

from app.job import State
from app.ledger import Ledger
from ops import audit
from tests.model_ledger import a_job, a_running_job


def test_jobs_that_wait_for_another_are_where_they_should_be(client: redis.Redis, ledger: Ledger) -> None:
    a_running_job(ledger, fingerprint="f")
    ledger.submit(a_job(fingerprint="f"))
    ledger.submit(a_job(line="l"))
    ledger.submit(a_job(line="l"))
    found = audit.take(client, ledger)

    assert (found.faults, found.balanced) == ([], True)
    assert found.census.held == 2
    assert found.states == {State.QUEUED: 3, State.RUNNING: 1}


@pytest.mark.parametrize("loss", ["leader", "line", "set"])
def test_a_job_that_nobody_will_let_go_is_found(client: redis.Redis, ledger: Ledger, loss: str) -> None:
    leader = a_running_job(ledger, fingerprint="f")
    follower = ledger.submit(a_job(fingerprint="f")).job_id
    ledger.submit(a_job(line="l"))
    second = ledger.submit(a_job(line="l")).job_id
    if loss == "leader":
        client.hset(f"job:{leader.id}", "state", "cancelled")
    elif loss == "line":
        client.delete("line:l")
    else:
        client.zrem("held", follower)
    faults = audit.take(client, ledger).faults

    expected = {"leader": f"job {follower}: is held, and nobody will let it go",
                "line": f"job {second}: is held, and nobody will let it go",
                "set": f"job {follower}: is queued but lies in no set"}
    assert expected[loss] in faults
