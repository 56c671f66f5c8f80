"""A job tells how it went to the cloud and back, and why."""

import json
from typing import Any

import pytest
import redis

from app.job import Service
from app.ledger import CloudLedger, Ledger, new_owner
from app.settings import Settings
from tests.ledger_cloud import NOW_MS, RULES, begun_job, send, sent_job, travel
from tests.model_cloud import OUT_THERE
from tests.model_ledger import PLACE, a_job


def waiting(ledger: Ledger, count: int) -> list[str]:
    return [ledger.submit(a_job()).job_id for _ in range(count)]


def moves(client: redis.Redis, job_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (client.hget(f"job:{job_id}", "moves") or b"").decode().splitlines()]


def test_a_job_tells_each_of_its_moves_and_why(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, settings: Settings) -> None:
    waiting(ledger, 2)
    travel(4, ledger, cloud)
    claim = sent_job(ledger, cloud)
    travel(1, ledger, cloud)
    cloud.recall(job_ids=[claim.id], decision=b'{"rule":"calm",\n"wait_s":0.5}')
    [sent] = send(cloud, 1)
    run = cloud.begin(claim.id, sent.owner, OUT_THERE, run="r1")
    assert run
    ledger.release(run, because="error")
    send(cloud, 1)
    travel(settings.cloud_wait_s, ledger, cloud)
    cloud.come_home()
    send(cloud, 1)
    cloud.keep(claim.id, decision=b'{"rule":"too-large"}')

    found = moves(client, claim.id)
    assert [move["move"] for move in found] == [
        "sent", "recalled", "sent", "begun", "returned", "sent", "lapsed", "sent", "kept"]
    assert found[0] == {"at_ms": NOW_MS + 4000, "move": "sent", "why": {"rule": "by-hand", "position": 2, "waited_s": 0.0}}
    assert found[1] == {"at_ms": NOW_MS + 5000, "move": "recalled", "why": {"rule": "calm", "wait_s": 0.5}}
    assert found[2]["why"]["waited_s"] == 1.0
    assert found[3]["why"] == {"worker": "cloud@far"}
    assert found[4]["why"]["rule"] == "returned"
    assert "cloud@far" in found[4]["why"]["detail"]
    assert found[8]["why"] == {"rule": "too-large"}


@pytest.mark.parametrize("why", [b"{}", b'{"a":{}}', b' { "a" : 1 } \n'])
def test_whatever_the_reason_looks_like_a_move_is_one_line_of_json(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, why: bytes) -> None:
    [job_id] = waiting(ledger, 1)
    cloud.send_job(job_id, decision=why, rules=RULES)

    [move] = moves(client, job_id)
    assert move["why"] == json.loads(why) | {"position": 0, "waited_s": 0.0}


def test_the_last_moves_are_kept_and_not_all(ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    [job_id] = waiting(ledger, 1)
    for number in range(20):
        send(cloud, 1)
        cloud.recall(most=1, decision=json.dumps({"number": number}).encode())

    found = moves(client, job_id)
    assert len(found) == 32
    assert (found[0]["move"], found[-1]["why"]) == ("sent", {"number": 19})


@pytest.mark.parametrize(("leave", "rule"), [("recalled", "recalled"), ("lapsed", "lapsed"), ("silent", "lapsed"),
                                             ("returned", "returned")])
def test_what_came_home_says_so_until_it_runs(
        ledger: Ledger, cloud: CloudLedger, settings: Settings, leave: str, rule: str) -> None:
    if leave in ("recalled", "lapsed"):
        job_id = sent_job(ledger, cloud).id
        travel(settings.cloud_wait_s, ledger, cloud)
        assert (cloud.recall(most=1) if leave == "recalled" else cloud.come_home()) == [job_id]
    else:
        claim, job_id = (run := begun_job(ledger, cloud)), run.id
        travel(settings.cloud_lease_s, ledger, cloud)
        assert ledger.reap() == ([job_id], []) if leave == "silent" else ledger.release(claim, because="drain")

    decision = json.loads(ledger.read(job_id).decision or b"")
    assert decision["rule"] == rule
    assert decision["detail"]
    assert ledger.take(Service.MODEL, PLACE, owner=new_owner())
    assert not ledger.read(job_id).decision
