"""The audit finds what is amiss, and nothing where all is well."""

import pytest
import redis

from app.job import State
from app.ledger import CloudLedger, Ledger
from app.routing_rules import Rules
from app.settings import Settings
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


@pytest.mark.parametrize(("field", "value", "fault"), [
    ("route", "local", "is queued by the route local, with a ticket"),
    ("ticket", None, "is queued by the route cloud, without a ticket")])
def test_a_job_that_is_in_the_cloud_without_the_right_to_be_is_found(
        client: redis.Redis, settings: Settings, ledger: Ledger, field: str, value: str | None, fault: str) -> None:
    job_id = ledger.submit(a_job()).job_id
    assert CloudLedger(client, settings).send_job(job_id, decision=b"{}", rules=Rules())
    assert audit.take(client, ledger).balanced
    if value:
        client.hset(f"job:{job_id}", field, value)
    else:
        client.hdel(f"job:{job_id}", field)

    assert audit.take(client, ledger).faults == [f"job {job_id}: {fault}"]


def test_a_job_that_lies_in_another_place_than_its_route_says_is_found(
        client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id
    CloudLedger(client, settings).send_job(job_id, decision=b"{}", rules=Rules())
    client.zrem("cloud", job_id)
    client.zadd("delayed", {job_id: 1})
    client.zadd("cloud", {"nobody": 1})

    assert audit.take(client, ledger).faults[-1] == "cloud holds nobody, which has no record"
    assert f"job {job_id}: is queued by the route cloud but lies in ['delayed']" in audit.take(client, ledger).faults
