"""`celery -A workers cloud`: what operators can do by hand, and what they are told when they cannot."""

import secrets
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result

from app import topology
from app.cloud_registry import CloudRegistry
from app.job import Route, Service, State, model_part, new_job_id
from app.ledger import CloudLedger, Ledger
from app.routing_board import RoutingBoard
from app.settings import Settings
from ops.cloud import cloud
from ops.embedded_redis import free_port
from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from routing.cloud import words
from routing.cloud.fleet import Fleet
from routing.cloud.link import Link
from routing.cloud.post import Post
from tests.cloud_home.stand_in import Run, StandIn
from tests.model_ledger import PLACE, a_job, a_running_job


def run(settings: Settings, *arguments: str) -> Result:
    """Run the command as `celery -A workers cloud` does."""
    return CliRunner().invoke(cloud, arguments, obj=SimpleNamespace(app=SimpleNamespace(tandem_settings=settings)))


def done(settings: Settings, *arguments: str) -> list[str]:
    """Run the command, which succeeds; return what it prints."""
    result = run(settings, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def refused(settings: Settings, *arguments: str) -> str:
    """Run the command, which does not succeed; return its last line, which is all that is said of the error."""
    result = run(settings, *arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert [line.startswith("Error: ") for line in result.stderr.splitlines()] == [True]
    return result.output.splitlines()[-1]


# -- send


def test_a_job_is_sent_by_hand_and_says_so(settings: Settings, ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id
    assert done(settings, "send", job_id) == [f"sent: {job_id}"]

    job, worker = ledger.read(job_id), StandIn(settings)
    assert worker.errand().job == job_id
    assert (job.route, job.state) == (Route.CLOUD, State.QUEUED)
    assert msgspec.json.decode(job.decision or b"") == {"rule": "by-hand", "detail": "an operator sent it to the cloud"}
    worker.close()


def test_those_that_would_wait_longest_are_sent(settings: Settings, ledger: Ledger) -> None:
    jobs = [ledger.submit(a_job()).job_id for _ in range(4)]

    assert sorted(done(settings, "send", "--waiting", "2")) == sorted(f"sent: {job_id}" for job_id in jobs[2:])
    assert done(settings, "send", "--waiting", "9")[2:] == ["no other job waits"]
    assert done(settings, "send", "--waiting", "9") == ["no job waits"]


def test_several_jobs_are_sent_and_those_that_cannot_be_are_said(settings: Settings, ledger: Ledger) -> None:
    one, other = ledger.submit(a_job()).job_id, ledger.submit(a_job()).job_id
    result = run(settings, "send", one, new_job_id(), other)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [f"sent: {one}", f"sent: {other}"]
    assert "not sent: there is no job" in result.stderr
    assert "1 of 3 were not sent" in result.stderr


def test_the_caps_hold_for_operators_too_and_they_are_told_which(
        settings: Settings, ledger: Ledger, client: redis.Redis) -> None:
    jobs = [ledger.submit(a_job()).job_id for _ in range(6)]
    rules = topology.load()[1].rules
    RoutingBoard(client).set({"routing": {"cloud_jobs_per_minute": 4}}, rules=rules, who="ann")
    result = run(settings, "send", "--waiting", "5")

    assert result.exit_code == 1
    assert sorted(result.stdout.splitlines()) == sorted(f"sent: {job_id}" for job_id in jobs[2:])
    assert "1 of 5 were not sent: 4 jobs a minute may be sent" in result.stderr
    assert "route set" in refused(settings, "send", jobs[0])
    RoutingBoard(client).set({"routing": {"cloud_jobs_per_minute": 9, "cloud_money_per_hour": 0}}, rules=rules, who="ann")
    assert "of 0 that an hour may cost, not enough is left" in refused(settings, "send", jobs[0])
    assert "2 of 2 were not sent" in run(settings, "send", "--waiting", "2").stderr


def test_where_no_cloud_worker_lives_whoever_sends_is_told(
        settings: Settings, ledger: Ledger, client: redis.Redis) -> None:
    assert "no cloud worker is heard of" in run(settings, "send", ledger.submit(a_job()).job_id).stderr
    Fleet(client, settings).hear(words.Worker(name="cloud@a", processor="", slots=1, busy=0, engine="scripted"))
    assert run(settings, "send", ledger.submit(a_job()).job_id).stderr == ""


def test_of_a_chat_the_models_part_is_sent(settings: Settings, ledger: Ledger) -> None:
    chat = ledger.submit(a_job(Service.CHAT)).job_id
    assert "has not asked the model" in refused(settings, "send", chat)
    ledger.submit(a_job(id=model_part(chat), parent=chat))

    assert done(settings, "send", chat) == [f"sent: {model_part(chat)}, the model's part of {chat}"]
    assert done(settings, "recall", chat) == [f"came home: {model_part(chat)}"]


def test_a_job_that_cannot_be_sent_is_said_why(settings: Settings, ledger: Ledger) -> None:
    assert "there is no job" in refused(settings, "send", new_job_id())
    assert "there is no job" in refused(settings, "send", "nonsense")
    running = a_running_job(ledger).id
    assert f"runs on {PLACE.worker}" in refused(settings, "send", running)
    ledger.cancel(running)
    assert "is cancelled; only jobs that wait" in refused(settings, "send", running)
    cache = ledger.submit(a_job(Service.CACHE)).job_id
    assert "of the service cache" in refused(settings, "send", cache)
    _, follower = (ledger.submit(a_job(fingerprint="f")).job_id for _ in range(2))
    assert "is held for another" in refused(settings, "send", follower)
    later = a_running_job(ledger)
    ledger.release(later, because="error", wait_s=60)
    assert "next attempt" in refused(settings, "send", later.id)
    sent = ledger.submit(a_job()).job_id
    done(settings, "send", sent)
    assert "sent to the cloud already" in refused(settings, "send", sent)


@pytest.mark.parametrize("arguments", [("send",), ("send", "j", "--waiting", "1"), ("send", "--waiting", "0"), ("recall",),
                                       ("recall", "j", "--all")])
def test_what_makes_no_sense_is_refused(settings: Settings, arguments: tuple[str, ...]) -> None:
    assert run(settings, *arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [("send", "j"), ("send", "--waiting", "1"), ("status",)])
def test_without_a_cloud_it_is_said_how_to_get_one(settings: Settings, arguments: tuple[str, ...]) -> None:
    assert "TANDEM_MNS_URL" in refused(replace(settings, mns_url=""), *arguments)


def test_trouble_of_mns_is_one_line_and_the_job_stays_here(
        settings: Settings, ledger: Ledger, mns: LocalMns) -> None:
    job_id = ledger.submit(a_job()).job_id
    nowhere = replace(settings, mns_url=f"mns://127.0.0.1:{free_port()}")
    assert "check the network" in refused(nowhere, "send", job_id)
    Path(settings.mns_credentials).write_text('{"access_key_id": "other", "access_key_secret": "hush"}')
    assert "check the access key" in refused(settings, "send", job_id)
    Path(settings.mns_credentials).write_text('{"access_key_id": "id", "access_key_secret": "hush"}')
    said = refused(settings, "send", job_id)
    assert "secret" in said
    assert "hush" not in said
    assert "nowhere.json" in refused(replace(settings, mns_credentials="nowhere.json"), "send", job_id)
    Path(settings.mns_credentials).write_text('{"access_key_id": "id", "access_key_secret": "secret"}')
    missing = replace(settings, mns_create_queues=False)
    assert "may not be created" in refused(missing, "send", job_id)
    assert ledger.read(job_id).route is Route.LOCAL

    done(settings, "send", ledger.submit(a_job()).job_id)
    mns.faults.add(Fault(operation="SendMessage", kind="drop_after", times=1))
    result = run(settings, "send", job_id)
    assert result.exit_code == 1
    assert f"perhaps sent: {job_id}; it comes home in 120 s" in result.stdout
    assert "nobody can say whether MNS took it" in result.stderr


def test_what_is_too_large_stays_here_and_it_is_said_why(settings: Settings, ledger: Ledger) -> None:
    large = ledger.submit(a_job(input=msgspec.json.encode({"prompt": secrets.token_hex(120_000)}))).job_id
    assert f"job {large} stays here: " in refused(settings, "send", large)
    small = ledger.submit(a_job()).job_id
    assert done(settings, "send", "--waiting", "5") == [f"sent: {small}", "no other job waits"]
    assert "no job waits" in done(settings, "send", "--waiting", "5")


# -- recall


def test_jobs_that_were_sent_are_recalled(settings: Settings, ledger: Ledger) -> None:
    jobs = [ledger.submit(a_job()).job_id for _ in range(3)]
    for job_id in jobs:
        done(settings, "send", job_id)

    assert done(settings, "recall", jobs[0]) == [f"came home: {jobs[0]}"]
    assert sorted(done(settings, "recall", "--all")) == sorted(f"came home: {job_id}" for job_id in jobs[1:])
    assert done(settings, "recall", "--all") == ["no job is out there that has not begun"]
    assert all(ledger.read(job_id).route is Route.LOCAL for job_id in jobs)


def test_a_job_that_cannot_be_recalled_is_said_why(settings: Settings, ledger: Ledger, client: redis.Redis) -> None:
    assert "there is no job" in refused(settings, "recall", new_job_id())
    here, begun, away = (ledger.submit(a_job()).job_id for _ in range(3))
    done(settings, "send", away)
    done(settings, "send", begun)
    out = CloudLedger(client, settings)
    ticket = client.hget(f"job:{begun}", "ticket").decode()
    out.begin(begun, ticket, replace(PLACE, worker="cloud@a", server="cloud"), run=Run(begun, ticket).run)
    result = run(settings, "recall", here, begun, away)

    assert result.exit_code == 1
    assert f"job {here} is queued, and not in the cloud" in result.stderr
    assert f"job {begun} runs on cloud@a in the cloud; cancel it" in result.stderr
    assert f"came home: {away}" in result.stdout
    assert "2 of 3 did not come home" in result.stderr


# -- status


def test_the_status_shows_how_the_cloud_stands(settings: Settings, ledger: Ledger, client: redis.Redis) -> None:
    for _ in range(2):
        done(settings, "send", ledger.submit(a_job()).job_id)
    worker = StandIn(settings)
    Fleet(client, settings).hear(worker.worker())
    Link(CloudRegistry(client), "queue@server-1 hearing").up()
    shown = "\n".join(done(settings, "status"))

    assert settings.mns_url in shown
    assert "they are reached" in shown
    assert "queue@server-1 hearing: reaches them" in shown
    assert "2 not begun" in shown
    assert "cloud@a  0 of 4 slots busy  engine scripted  P11  heard of" in shown
    assert "sent 2" in shown
    assert "put aside" not in shown
    worker.close()


def test_the_status_shows_that_nobody_works_and_why_the_queues_are_not_reached(
        settings: Settings, client: redis.Redis) -> None:
    nowhere = replace(settings, mns_url=f"mns://127.0.0.1:{free_port()}")
    Link(CloudRegistry(client), "queue@server-1 hearing").down(OSError("no route"))
    shown = "\n".join(done(nowhere, "status"))

    assert "they are not reached: " in shown
    assert "has not reached them for 0 s: OSError: no route" in shown
    assert "none lives" in shown


def test_the_status_shows_what_was_put_aside(settings: Settings) -> None:
    with Post(settings) as post:
        for _ in range(2):
            post.send(f"{settings.mns_prefix}-results-dead", "cloud.report", {}, message_id=new_job_id())
    wait_until(lambda: f"2 messages were put aside in {settings.mns_prefix}-results-dead" in run(settings, "status").output,
               timeout_s=10, what="the messages to be seen")
