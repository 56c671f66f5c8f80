"""What becomes of an errand at a cloud worker, whatever happens meanwhile."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from celery.exceptions import CeleryCommandException, Reject

from app import logs
from app.errors import SettingsError
from app.topology import Profile, load
from ops.waiting import wait_until
from routing.cloud import words
from routing.cloud.broker import LONGEST_LEASE_S
from tests.cloud_desk import TICKET, Box, Desk, desk_at
from tests.test_engine_families import an_engine, greedy, run_on, save_model
from workers.cloud import boot, run
from workers.cloud.application import make_app
from workers.cloud.consuming import ErrandPool


@pytest.fixture
def box() -> Box:
    """Where reports go."""
    return Box()


@pytest.fixture
def desk(box: Box) -> Iterator[Desk]:
    """Where errands are taken; it sends to the box."""
    with desk_at(box) as one:
        yield one


def test_an_errand_ends_when_mns_has_taken_its_end_and_not_before(box: Box, desk: Desk) -> None:
    box.away = True
    taken = desk.take("a b")
    wait_until(lambda: box.tries >= 3, timeout_s=10, what="three tries")
    assert not taken.done()

    box.away = False
    assert taken.result(10) == "ended"
    ended = box.came(words.Ended)
    outcome = msgspec.json.decode(ended.outcome, type=words.Outcome)
    assert (outcome.state, json.loads(outcome.result)) == ("succeeded", {"text": "a b", "finish_reason": "stop",
                                                                         "model": "scripted"})
    assert json.loads(outcome.usage) == {"prompt_tokens": 2, "completion_tokens": 2, "cached_tokens": 0}
    assert ended.run.startswith(f"{TICKET}.")


@pytest.mark.parametrize(("script", "errors", "because", "wait_s"), [
    ("[error transient]", 0, "error", 2.0), ("[error transient]", 1, "error", 4.0),
    ("[error out-of-memory]", 0, "error", 2.0),
])
def test_an_error_that_may_pass_gives_the_job_back_with_a_wait(
        box: Box, desk: Desk, script: str, errors: int, because: str, wait_s: float) -> None:
    assert desk.take(script, errors=errors).result(10) == "given_back"
    told = box.came(words.GaveBack)
    assert (told.because, told.wait_s) == (because, wait_s)
    assert script in told.why


@pytest.mark.parametrize(("script", "errors"), [("[error permanent]", 0), ("[error transient]", 2)])
def test_an_error_that_will_not_pass_or_came_too_often_fails_the_job(
        box: Box, desk: Desk, script: str, errors: int) -> None:
    assert desk.take(script, errors=errors).result(10) == "ended"
    outcome = msgspec.json.decode(box.came(words.Ended).outcome, type=words.Outcome)
    assert outcome.state == "failed"
    assert script in json.loads(outcome.error)["detail"]


def test_a_bug_of_ours_fails_the_job_and_tells_nothing_of_itself(
        box: Box, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.node.engine, "generate", Mock(side_effect=ZeroDivisionError("secret")))
    assert desk.take("x").result(10) == "ended"
    outcome = msgspec.json.decode(box.came(words.Ended).outcome, type=words.Outcome)
    assert json.loads(outcome.error)["code"] == "internal-error"
    assert "secret" not in outcome.error


def test_of_a_run_that_a_bug_left_without_an_end_nobody_says_that_it_lives(
        box: Box, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "conclude", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        desk.take("x").result(10)
    assert desk.node.courier._speakers == {}


@pytest.mark.parametrize("members", [{"task": "model.dream"}, {"input": '{"prompt": 5}'}, {"input": "{"}])
def test_what_only_a_newer_worker_can_read_goes_home_and_does_not_count(
        box: Box, desk: Desk, members: dict[str, str]) -> None:
    assert desk.take("x", **members).result(10) == "given_back"
    told = box.came(words.GaveBack)
    assert told.because == "drain"
    assert "newer Tandem" in told.why


@pytest.mark.parametrize("arguments", [{}, {"errand": None}, {"errand": {"job": "x"}}, {"other": 1}])
def test_a_malformed_errand_is_let_go(box: Box, desk: Desk, arguments: dict[str, Any]) -> None:
    assert run.take(arguments, "M1", desk.node) == "malformed"
    assert box.heard == []


def test_an_errand_is_let_go_when_its_deadline_has_passed_by_any_clock_that_mns_allows(box: Box, desk: Desk) -> None:
    now_ms, clocks_differ_ms = round(time.time() * 1000), 15 * 60 * 1000
    assert desk.take("x", deadline_ms=now_ms - clocks_differ_ms - 1000).result(10) == "expired"
    assert box.heard == []
    assert desk.take("x", deadline_ms=now_ms - clocks_differ_ms + 60_000).result(10) == "ended"


def test_a_void_ticket_is_let_go(box: Box, desk: Desk) -> None:
    desk.node.void([TICKET])
    assert desk.take("x").result(10) == "void"
    assert box.heard == []


@pytest.mark.parametrize("what", ["ticket", "run"])
def test_what_becomes_void_while_it_runs_stops_and_reports_no_end(box: Box, desk: Desk, what: str) -> None:
    taken = desk.take("[stall 60s] x")
    name = desk.begun()
    stopped = desk.node.void([TICKET if what == "ticket" else name])
    assert [each.id for each in stopped] == [name]
    assert taken.result(10) == "void"
    assert not any(isinstance(word, words.Ended | words.GaveBack) for word in box.heard)


def test_an_end_that_became_void_while_mns_was_away_is_not_waited_for(box: Box, desk: Desk) -> None:
    box.away = True
    taken = desk.take("x")
    wait_until(lambda: box.tries >= 2, timeout_s=10, what="tries")
    desk.node.void([TICKET])
    assert taken.result(10) == "void"


def test_another_message_with_the_ticket_of_a_run_in_progress_is_let_go_at_once(desk: Desk) -> None:
    first = desk.take("[stall 60s] x", message="M1")
    name = desk.begun()
    assert desk.take("[stall 60s] x", message="M2").result(10) == "again"
    assert desk.take("[stall 60s] x", message=None).result(10) == "again"
    assert not first.done()
    desk.node.void([name])
    assert first.result(10) == "void"


def test_the_same_message_come_again_is_held_until_its_run_is_over(box: Box, desk: Desk) -> None:
    first = desk.take("[stall 60s] x", message="M1")
    name = desk.begun()
    held_before = logs.counters["errand_again"]
    again = desk.take("[stall 60s] x", message="M1")
    wait_until(lambda: logs.counters["errand_again"] > held_before, timeout_s=10, what="the message to be held")
    assert not first.done()
    assert not again.done()

    desk.node.void([name])
    assert (first.result(10), again.result(10)) == ("void", "again")
    assert {word.run for word in box.heard} <= {name}


def test_a_ticket_that_was_run_here_is_not_run_again(box: Box, desk: Desk) -> None:
    assert desk.take("x").result(10) == "ended"
    assert desk.take("x").result(10) == "void"
    assert len({word.run for word in box.heard}) == 1


def test_a_run_whose_messages_lease_is_lost_goes_on(desk: Desk) -> None:
    taken = desk.take("[stall 100ms] x", message="M1")
    desk.begun()
    assert desk.node.lose("M1") == []
    assert taken.result(10) == "ended"


def test_a_run_that_takes_longer_than_any_may_stops_and_gives_the_job_back(box: Box, desk: Desk) -> None:
    taken = desk.take("[stall 60s] x", message="M1")
    name = desk.begun()
    desk.clock.now_s += LONGEST_LEASE_S
    assert desk.node.lose("M2") == []
    assert [each.id for each in desk.node.lose("M1")] == [name]
    assert taken.result(10) == "given_back"
    told = box.came(words.GaveBack)
    assert (told.because, "longer than any job may" in told.why) == ("drain", True)


def test_a_worker_that_goes_down_lets_its_runs_have_their_time_and_then_gives_them_back(box: Box, desk: Desk) -> None:
    taken = desk.take("[stall 60s] x")
    desk.begun()
    desk.node.drain()
    assert desk.node.worker().stopping
    assert not desk.node.drained
    desk.clock.now_s += 1.0
    assert taken.result(10) == "given_back"
    told = box.came(words.GaveBack)
    assert (told.because, told.wait_s, told.why) == ("drain", 0.0, "the worker goes down")
    assert desk.node.done


def test_a_cold_shutdown_gives_what_runs_back_at_once(box: Box, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_node", desk.node)
    taken = desk.take("[stall 60s] x")
    desk.begun()
    desk.node.drain()
    pool = ErrandPool(limit=1)
    pool.terminate_job(1)
    pool.on_stop()
    assert taken.result(10) == "given_back"
    assert box.came(words.GaveBack).because == "drain"


def test_an_end_that_mns_does_not_take_before_the_worker_is_gone_leaves_the_message_to_others(box: Box, desk: Desk) -> None:
    box.away = True
    taken = desk.take("x", message="M1")
    again = desk.take("x", message="M1")
    wait_until(lambda: box.tries >= 2, timeout_s=10, what="tries")
    desk.node.drain()
    desk.clock.now_s += 60.0
    for one in taken, again:
        with pytest.raises(Reject) as refused:
            one.result(10)
        assert refused.value.requeue


def test_a_model_in_torch_answers_an_errand(box: Box, tmp_path: Path) -> None:
    with closing(an_engine(save_model(tmp_path / "tiny"))) as engine, desk_at(box, engine) as desk:
        request = msgspec.json.encode(greedy("the sea is", max_tokens=8)).decode()
        assert desk.take("", input=request).result(60) == "ended"
        outcome = msgspec.json.decode(box.came(words.Ended).outcome, type=words.Outcome)
        assert json.loads(outcome.result)["text"] == engine.generate(greedy("the sea is", max_tokens=8), run_on).text
        assert desk.node.worker().figures == engine.figures()


def test_a_worker_says_what_it_is(desk: Desk) -> None:
    assert desk.node.worker() == words.Worker(name="cloud@x", processor="P11", slots=4, busy=0, engine="scripted")


@pytest.fixture
def cloud_app() -> Any:
    """The application of the profile cloud, without an MNS."""
    environment = {"TANDEM_PROFILE": "cloud", "TANDEM_ENGINE": "scripted", "TANDEM_REDIS_URL": "redis://127.0.0.1:1/0"}
    settings, plan = load(environment, embedded=False)
    assert plan.profile is Profile.CLOUD
    return make_app(settings, plan)


def test_the_application_knows_of_no_redis_even_if_one_is_set(cloud_app: Any) -> None:
    assert cloud_app.tandem_settings.redis_url == ""
    assert "redis" not in repr({key: cloud_app.conf[key] for key in ("broker_url", "result_backend")})


@pytest.mark.parametrize("ask", [
    lambda app: app.control.inspect().ping(), lambda app: app.control.revoke("x"), lambda app: app.AsyncResult("x").get(),
    lambda app: app.AsyncResult("x").state,
], ids=["inspect", "revoke", "get", "state"])
def test_what_celery_is_asked_of_cloud_workers_is_refused_with_the_reason(
        cloud_app: Any, ask: Callable[[Any], Any]) -> None:
    with pytest.raises(CeleryCommandException, match=r"cloud workers (have no remote control|keep no results).*at home"):
        ask(cloud_app)


def test_another_pool_is_refused(cloud_app: Any) -> None:
    from celery.concurrency.solo import TaskPool

    with pytest.raises(SettingsError, match=r"pool is celery\.concurrency\.solo; start the worker without --pool"):
        boot.prepare(Mock(app=cloud_app, pool_cls=TaskPool))


def test_without_an_mns_a_worker_is_refused(cloud_app: Any) -> None:
    from celery.concurrency.thread import TaskPool

    with pytest.raises(SettingsError, match="mns_url is missing"):
        boot.prepare(Mock(app=cloud_app, pool_cls=TaskPool))
