"""An upstream that does not work is left alone, and a worker starts without it and says so."""

from pathlib import Path

import pytest

from app import logs
from app.errors import EngineFailed, EngineTransient
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


def test_jobs_outlive_an_outage_longer_than_all_their_attempts(tmp_path: Path) -> None:
    port = free_port()
    sandbox = Sandbox.lay(tmp_path, engine="openai", profile="standard", openai_url=f"http://127.0.0.1:{port}/v1",
                          openai_model="m", openai_retry_s="0.01", retry_delay_s="0.05", max_attempts="2")
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
