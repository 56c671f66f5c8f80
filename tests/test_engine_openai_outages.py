"""An upstream that does not work is left alone, and a worker starts without it and says so."""

import time
from pathlib import Path

import pytest

from app import logs
from app.errors import EngineFailed, EngineTransient, EngineUnavailable
from app.settings import Settings
from ops.embedded_redis import free_port
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.upstream import (
    BEGUN,
    NO_RETRY,
    WELL,
    Play,
    breaks,
    chat,
    delta,
    engine_for,
    garbage,
    refuses,
    run_on,
    silent,
    streams,
    upstream,
    wait_and_say,
)
from workers.engine.openai_engine import OpenAIEngine
from workers.engine.upstream_failure import Translation


def test_an_upstream_that_does_not_work_is_left_alone_and_found_again_by_one_request() -> None:
    with upstream(refuses(500, {})) as server, engine_for(
            server.url, openai_retry_s=NO_RETRY, openai_breaker_faults=3, openai_breaker_cooldown_s=2.0) as engine:
        for _ in range(3):
            with pytest.raises(EngineTransient, match="answered 500"):
                engine.generate(chat(), run_on)
        with pytest.raises(EngineTransient, match=r"does not work at the moment; it will be tried again in \d\.\d s"):
            engine.generate(chat(), run_on)
        assert server.calls == 3
        assert (engine.figures()["breaker"], engine.figures()["refused"]) == (2, 1)

        server.plays = [WELL]
        assert wait_until(lambda: answered(engine), timeout_s=10, what="the upstream to be tried") == "all well"
        assert (engine.figures()["breaker"], engine.figures()["breaker_opened"]) == (0, 1)


def answered(engine: OpenAIEngine) -> str:
    """Return an answer, or "" where the breaker does not let the call through."""
    try:
        return engine.generate(chat(), run_on).text
    except EngineTransient:
        return ""


@pytest.mark.parametrize("play", [
    refuses(400, {}), refuses(401, {}), refuses(429, {}), streams(delta("content_filter"))])
def test_what_is_not_the_upstreams_fault_does_not_count_against_it(play: Play) -> None:
    with upstream(play) as server, engine_for(
            server.url, openai_retry_s=NO_RETRY, openai_breaker_faults=1) as engine:
        for _ in range(3):
            with pytest.raises((EngineFailed, EngineTransient)):
                engine.generate(chat(), run_on)
        assert server.calls == 3
        assert engine.figures()["breaker"] == 0


@pytest.mark.parametrize("play", [
    breaks(BEGUN), garbage, refuses(500, {}), wait_and_say(BEGUN), silent, streams(BEGUN)])
def test_each_kind_of_fault_counts_against_the_upstream(play: Play) -> None:
    with upstream(play) as server, engine_for(
            server.url, openai_retry_s=NO_RETRY, openai_breaker_faults=1, openai_silence_s=0.1) as engine:
        with pytest.raises(EngineTransient):
            engine.generate(chat(), run_on)
        assert engine.figures()["breaker"] == 2


def test_a_request_waits_where_it_is_for_an_upstream_that_is_tried_again_soon() -> None:
    with upstream(refuses(500, {}), WELL) as server, engine_for(
            server.url, openai_retry_s=20.0, openai_breaker_faults=1, openai_breaker_cooldown_s=0.2) as engine:
        assert engine.generate(chat(), run_on).text == "all well"
        assert (server.calls, engine.figures()["refused"]) == (2, 0)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_an_upstream_that_asks_for_patience_is_left_alone_by_requests_that_hold_their_slots(status: int) -> None:
    with upstream(refuses(status, {}, Retry_After="60")) as server, engine_for(
            server.url, openai_retry_s=0.3, openai_breaker_faults=100) as engine:
        with pytest.raises(EngineTransient, match=f"answered {status}"):
            engine.generate(chat(), run_on)
        begun_s = time.monotonic()
        for _ in range(3):
            with pytest.raises(EngineUnavailable, match="asks for patience; it will be tried again in 5") as raised:
                engine.generate(chat(), run_on)
            assert 50 < raised.value.retry_after_s <= 60
        assert time.monotonic() - begun_s >= 0.9
        assert (server.calls, engine.figures()["refused"]) == (1, 3)


def test_a_request_waits_where_it_is_until_the_upstream_wants_calls_again() -> None:
    with upstream(refuses(429, {}, Retry_After="1"), WELL) as server, engine_for(
            server.url, openai_retry_s=1.0) as engine:
        with pytest.raises(EngineUnavailable) as raised:
            engine.generate(chat(), run_on)
        assert raised.value.retry_after_s == 1.0
        assert engine.generate(chat(), run_on).text == "all well"
        assert server.calls == 2


def test_a_slot_is_held_while_the_breaker_is_open_for_longer_than_a_request_may_wait() -> None:
    with upstream(refuses(500, {})) as server, engine_for(
            server.url, openai_retry_s=0.2, openai_breaker_faults=1, openai_breaker_cooldown_s=60.0) as engine:
        with pytest.raises(EngineTransient):
            engine.generate(chat(), run_on)
        begun_s = time.monotonic()
        for _ in range(3):
            with pytest.raises(EngineUnavailable) as raised:
                engine.generate(chat(), run_on)
            assert 50 < raised.value.retry_after_s <= 60
        assert time.monotonic() - begun_s >= 0.5
        assert server.calls == 1


@pytest.mark.parametrize("date", ["Mon, 01 Jan 2024 00:00:00 +99999999999999", "Mon, 01 Jan 0001 00:00:00 -0000"])
def test_an_odd_date_in_retry_after_does_not_shut_the_upstream_out(date: str) -> None:
    with upstream(refuses(503, {}, Retry_After=date), WELL) as server, engine_for(
            server.url, openai_breaker_faults=1, openai_breaker_cooldown_s=0.1) as engine:
        assert engine.generate(chat(), run_on).text == "all well"
        assert server.calls == 2


def test_a_bug_in_a_trial_leaves_the_next_request_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    with upstream(refuses(500, {}), refuses(500, {}), WELL) as server, engine_for(
            server.url, openai_retry_s=0.2, openai_breaker_faults=1, openai_breaker_cooldown_s=0.1) as engine:
        with pytest.raises(EngineTransient):
            engine.generate(chat(), run_on)
        with monkeypatch.context() as patch:
            patch.setattr(Translation, "of_exception", bug)
            with pytest.raises(RuntimeError):
                engine.generate(chat(), run_on)
        assert (server.calls, engine.figures()["breaker"]) == (2, 1)
        assert engine.generate(chat(), run_on).text == "all well"


def test_jobs_outlive_an_outage_longer_than_all_their_attempts(tmp_path: Path) -> None:
    port = free_port()
    sandbox = Sandbox.lay(tmp_path, engine="openai", profile="standard", openai_url=f"http://127.0.0.1:{port}/v1",
                          openai_model="m", openai_retry_s="0.01", openai_breaker_cooldown_s="0.01", retry_delay_s="0.05",
                          max_attempts="2")
    try:
        with upstream(WELL, port=port):
            report = sandbox.up()  # with a first job
        with Caller(report["entry"], report["api_key"]) as caller:
            job = caller.submit("hello")
            wait_until(lambda: caller.job(job["id"])["attempt"] > 4, timeout_s=30,
                       what="more attempts than errors may cost")
            with upstream(WELL, port=port):
                assert caller.ended(job["id"])["result"]["text"] == "all well"
    finally:
        sandbox.down()


# at start

def test_a_worker_starts_without_its_upstream_and_says_so() -> None:
    before = logs.counters["upstream_not_ready"]
    port = free_port()
    engine = OpenAIEngine.load(Settings(openai_url=f"http://127.0.0.1:{port}/v1"), slots=1)

    assert logs.counters["upstream_not_ready"] == before + 1
    with upstream(WELL, port=port):
        assert engine.generate(chat(), run_on).text == "all well"
    engine.close()


@pytest.mark.parametrize(("model", "event"), [
    ("second", "upstream_ready"), ("", "upstream_ready"), ("third", "upstream_model_not_listed")])
def test_a_worker_says_whether_its_upstream_serves_the_model(model: str, event: str) -> None:
    before = logs.counters[event]
    with upstream() as server:
        OpenAIEngine.load(Settings(openai_url=server.url, openai_model=model), slots=1).close()

    assert logs.counters[event] == before + 1


@pytest.mark.parametrize("models", [
    refuses(500, {}), refuses(200, "[]"), refuses(200, {"data": None}), refuses(200, {"data": []}),
    refuses(200, "<html>", Content_Type="text/html"), refuses(200, "not json", Content_Type="application/json")])
def test_a_list_of_models_that_cannot_be_read_is_a_transient_error(models: Play) -> None:
    with upstream(models=models) as server, engine_for(
            server.url, openai_model="", openai_retry_s=NO_RETRY) as engine, pytest.raises(EngineTransient):
        engine.generate(chat(), run_on)
