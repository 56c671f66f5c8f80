"""`celery -A workers route explain`: the story of a job."""

import re

import pytest
import redis

from app import topology
from app.job import Service, model_part, new_job_id
from app.ledger import Claim, CloudLedger, Ledger, Place
from app.routing_board import RoutingBoard
from app.routing_rules import Rules
from app.settings import Settings
from tests.model_ledger import PLACE, a_job, a_running_job
from tests.route_command import Command
from tests.routing_round import a_round, now_ms, write

OUT_THERE = Place(worker="cloud@a", server="cloud", processor="")
WHY = b'{"rule": "excess", "detail": "more waits than home can do", "wait_s": 17.25, "target_wait_s": 5}'


@pytest.fixture
def rules() -> Rules:
    return topology.load({})[1].rules


@pytest.fixture
def command(settings: Settings, client: redis.Redis) -> Command:
    return Command(settings)


def test_the_story_of_a_job_is_told_with_its_moves_and_where_its_time_went(
        client: redis.Redis, settings: Settings, ledger: Ledger, rules: Rules, command: Command) -> None:
    cloud, job_id = CloudLedger(client, settings), ledger.submit(a_job()).job_id
    assert "waiting at home, next in line; attempt 0" in command.done("explain", job_id)
    start_ms = int(client.hget(f"job:{job_id}", "created_ms"))
    at = [CloudLedger(client, settings, now_ms=start_ms + ms) for ms in (3000, 4000)]
    claim = at[0].send_job(job_id, decision=WHY, rules=rules)
    assert isinstance(claim, Claim)
    assert "sent to the cloud and not begun there" in command.done("explain", job_id)
    at[1].begin(job_id, claim.owner, OUT_THERE, run="r1")
    text = command.done("explain", job_id)

    assert max(map(len, text.splitlines())) <= 100
    assert "state      running on cloud@a, attempt 1" in text
    assert "why        rule excess; more waits than home can do; wait_s 17.25, target_wait_s 5" in text
    assert re.search(r"\+  3\.0 s  sent to the cloud\n", text)
    assert re.search(r"\+  4\.0 s  begun in the cloud\n", text)
    assert "waiting at home 3.0 s, on the way to the cloud 1.0 s, running in" in text
    assert cloud.recall(most=9) == []


def test_a_job_that_waits_at_home_is_told_how_things_stand_with_it_now(
        client: redis.Redis, ledger: Ledger, command: Command) -> None:
    job_id = ledger.submit(a_job()).job_id
    assert "now        no round of routing for 10 s" in command.done("explain", job_id)
    write(client)
    said = command.done("explain", f"chatcmpl-{job_id}")

    assert "now        server-1 takes nothing new of model; the last round: 167 jobs would wait" in said
    RoutingBoard(client).pause("ann@desk", "repairs")
    write(client, a_round(now_ms(client), acting=False))
    said = " ".join(command.done("explain", job_id).split())
    assert "the last round: would, if routing were acting: 167 jobs" in said
    assert "routing is paused, by ann@desk since" in said


def test_what_is_not_known_is_told_so_and_a_reason_is_told_once(
        client: redis.Redis, settings: Settings, ledger: Ledger, rules: Rules, command: Command) -> None:
    job_id = ledger.submit(a_job()).job_id
    start_ms = int(client.hget(f"job:{job_id}", "created_ms"))
    why = b'{"rule": "excess", "detail": "more waits than home can do", "wait_s": null}'
    CloudLedger(client, settings, now_ms=start_ms + 125_000).send_job(job_id, decision=why, rules=rules)
    said = command.done("explain", job_id)

    assert said.count("rule excess; more waits than home can do; wait_s unknown") == 1
    assert said.count("more waits than home can do") == 1, "the move adds to it, and does not say it again"
    assert "waited_s 125" in said
    assert "None" not in said
    assert "+2 min 5 s  sent to the cloud" in said


def test_the_story_of_a_chat_tells_the_models_part_too(ledger: Ledger, command: Command) -> None:
    chat = ledger.submit(a_job(Service.CHAT)).job_id
    assert "model part it has not asked the model" in command.done("explain", chat)
    ledger.submit(a_job(id=model_part(chat), parent=chat))

    assert f"model part {model_part(chat)}" in command.done("explain", chat)


def test_the_story_of_a_job_that_ran_at_home_tells_where_and_how_it_ended(
        ledger: Ledger, command: Command) -> None:
    claim = a_running_job(ledger)
    assert f"running on {PLACE.worker} (P2), attempt 1" in command.done("explain", claim.id)
    ledger.cancel(claim.id)
    text = command.done("explain", claim.id)

    assert f"cancelled on {PLACE.worker}, attempt 1" in text
    assert "running at home" in text
    assert "until now" not in text


def test_what_a_move_says_that_cannot_be_read_is_left_out(
        client: redis.Redis, ledger: Ledger, command: Command) -> None:
    job_id = ledger.submit(a_job()).job_id
    client.hset(f"job:{job_id}", "moves", b'{"at_ms": 1\n{"at_ms": 99999999999999, "move": "teleported", "why": null}')

    assert "teleported" in command.done("explain", job_id)


def test_an_id_of_no_job_is_told_so(client: redis.Redis, command: Command) -> None:
    gone = new_job_id()
    client.set(f"gone:{gone}", "ann")

    assert "there is no job" in command.refused("explain", new_job_id())
    assert "past its retention" in command.refused("explain", gone)
    assert "'nonsense' is no id of a job" in command.refused("explain", "nonsense")
