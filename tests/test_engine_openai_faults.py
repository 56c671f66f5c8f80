"""Whatever the upstream does wrong, a request ends as the seam promises, and nothing that was told is taken back."""

import threading
import time

import pytest

from app.errors import EngineFailed, EngineTransient, EngineUnavailable, JobStopped, PromptTooLong, TandemError
from app.settings import Settings
from ops.embedded_redis import free_port
from ops.waiting import wait_until
from tests.upstream import (
    BEGUN,
    NO_RETRY,
    WELL,
    Exchange,
    Listener,
    Play,
    ask,
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
    usage,
    wait_and_say,
)
from workers.engine import Channel
from workers.engine.openai_engine import OpenAIEngine

AT_ONCE = {"Retry_After": "0"}
BUSY = refuses(429, {"error": {"message": "Rate limit reached"}}, **AT_ONCE)
DOWN = refuses(503, {"error": {"message": "no worker"}}, **AT_ONCE)


def failure(play: Play, **settings: float) -> TandemError:
    """Return what a request ends with at an upstream that does nothing but this, without another call."""
    with pytest.raises(TandemError) as raised:
        ask(play, **({"openai_retry_s": NO_RETRY} | settings))
    return raised.value


# what is tried again

@pytest.mark.parametrize("plays", [[BUSY, WELL], [DOWN, WELL], [BUSY, DOWN, BUSY, WELL]])
def test_a_busy_or_broken_upstream_is_asked_again_until_it_answers(plays: list[Play]) -> None:
    with upstream(*plays) as server, engine_for(server.url) as engine:
        assert engine.generate(chat(), run_on).text == "all well"
        assert server.calls == len(plays)
        assert engine.figures()["retries"] == len(plays) - 1
        assert (engine.figures()["answers"], engine.figures()["errors"]) == (1, 0)


@pytest.mark.parametrize("play", [
    breaks(), garbage, streams(), streams(delta(role="assistant")), streams({"choices": [{"delta": {"content": 5}}]}),
    streams({"error": {"message": "engine died", "code": 500}}), streams({"error": "engine died"}),
    streams(delta("insufficient_system_resource")), streams(delta("abort")), refuses(200, {"choices": []})])
def test_a_stream_that_breaks_before_anything_was_told_is_tried_again(play: Play) -> None:
    with upstream(play, WELL) as server, engine_for(server.url) as engine:
        told = Listener()
        assert engine.generate(chat(), run_on, told).text == told.heard(Channel.CONTENT) == "all well"
        assert server.calls == 2


def test_an_upstream_that_is_not_there_yet_is_waited_for() -> None:
    port = free_port()
    with engine_for(f"http://127.0.0.1:{port}/v1", openai_retry_s=30.0) as engine:
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(engine.generate(chat(), run_on).text))
        thread.start()
        wait_until(lambda: engine.figures()["retries"], timeout_s=10, what="a call to be refused")
        with upstream(WELL, port=port):
            thread.join()
    assert answers == ["all well"]


def test_what_is_asked_to_wait_longer_than_it_may_gives_up_at_once_and_says_so() -> None:
    error = failure(refuses(429, {"error": {"message": "slow down"}}, Retry_After="3600"), openai_retry_s=30.0)

    assert isinstance(error, EngineUnavailable)
    assert "answered 429: slow down; given up at call 1" in str(error)
    assert "the next would be in 600.0 s" in str(error)
    assert error.retry_after_s == 600.0


@pytest.mark.parametrize(("play", "says"), [
    (refuses(503, {"error": {"message": "no worker"}}), "answered 503: no worker"),
    (refuses(429, {"message": "Rate limit reached"}), "answered 429: Rate limit reached"),
    (breaks(), "the connection failed (RemoteProtocolError"),
    (garbage, "a piece of the stream cannot be read"),
    (streams(delta(role="assistant")), "the stream ended before the answer did"),
    (streams(delta("insufficient_system_resource")), "the answer ended for 'insufficient_system_resource'"),
    (streams({"error": {"message": "engine died"}}), "the stream ended with an error: engine died"),
    (refuses(502, "<html>Bad  gateway</html>"), "answered 502: <html>Bad gateway</html>"),
    (refuses(200, "<html>Welcome</html>", Content_Type="text/html"), "is no event stream but text/html; check openai_url")])
def test_what_may_pass_is_a_transient_error_that_says_what_happened(play: Play, says: str) -> None:
    with upstream(play) as server, engine_for(server.url, openai_retry_s=NO_RETRY) as engine:
        with pytest.raises(EngineTransient) as raised:
            engine.generate(chat(), run_on)
        assert str(raised.value).startswith("the model server: ")
        assert says in str(raised.value)
        assert server.calls == 1


def test_no_connection_is_nothing_that_counts_against_a_job() -> None:
    with engine_for(f"http://127.0.0.1:{free_port()}/v1", openai_retry_s=NO_RETRY) as engine, \
            pytest.raises(EngineUnavailable, match="no connection \\("):
        engine.generate(chat(), run_on)


# what was told cannot be taken back

@pytest.mark.parametrize("piece", [BEGUN, delta(reasoning_content="hm")])
@pytest.mark.parametrize("how", [Exchange.cut, lambda exchange: exchange.event({"error": {"message": "died"}})])
def test_a_stream_that_breaks_after_a_part_was_told_ends_the_attempt(piece: object, how: Play) -> None:
    told = Listener()
    with upstream(breaks(piece, how=how), WELL) as server, engine_for(server.url) as engine:
        with pytest.raises(EngineTransient, match="a part of the answer was told already"):
            engine.generate(chat(), run_on, told)
        assert server.calls == 1
        assert len(told.told) == 1
        assert engine.figures()["errors"] == 1


def test_silence_in_the_middle_of_a_stream_is_a_broken_stream() -> None:
    error = failure(wait_and_say(BEGUN), openai_silence_s=0.1)

    assert isinstance(error, EngineTransient)
    assert "silent for too long (the setting openai_silence_s)" in str(error)


def test_silence_before_the_first_piece_is_tried_again() -> None:
    with upstream(silent, WELL) as server, engine_for(server.url, openai_silence_s=0.2) as engine:
        assert engine.generate(chat(), run_on).text == "all well"


def test_silence_counts_against_a_job_only_where_the_upstream_still_lists_its_models() -> None:
    assert not isinstance(failure(silent, openai_silence_s=0.1), EngineUnavailable)

    with upstream(silent, models=silent) as server, engine_for(
            server.url, openai_retry_s=NO_RETRY, openai_silence_s=0.1, openai_connect_s=0.2) as engine:
        with pytest.raises(EngineUnavailable, match="silent, also when asked for its models"):
            engine.generate(chat(), run_on)
        assert engine.figures()["breaker"] == 0


# what is final

def test_an_account_without_money_is_for_good_and_a_limit_on_tokens_a_minute_is_not() -> None:
    message = "You exceeded your current quota, please check your plan and billing details."
    for error in ({"message": message, "code": "insufficient_quota"},
                  {"message": message, "type": "insufficient_quota", "code": None}):
        found = failure(refuses(429, {"error": error}))
        assert isinstance(found, EngineFailed)
        assert message in str(found)

    model_studio = {"message": "Allocated quota exceeded, please increase your quota limit.", "code": "insufficient_quota"}
    assert isinstance(failure(refuses(429, {"error": model_studio})), EngineUnavailable)



@pytest.mark.parametrize(("status", "body", "says"), [
    (400, {"error": {"message": "temperature is too hot", "code": "bad"}}, "answered 400: temperature is too hot"),
    (422, {"detail": "Unexpected fields"}, "answered 422: Unexpected fields"),
    (422, {"detail": [{"loc": ["body"], "msg": "wrong"}]}, 'answered 422: [{"loc":["body"],"msg":"wrong"}]'),
    (402, {"error": {"message": "Insufficient Balance"}}, "answered 402: Insufficient Balance"),
    (401, {"error": {"message": "Invalid key"}}, "Invalid key; check the setting openai_key (TANDEM_OPENAI_KEY)"),
    (403, {"error": {"message": "Not for you"}}, "Not for you; check the setting openai_key"),
    (404, {"error": {"message": "No such model"}}, "check the settings openai_url (it ends in /v1 on most servers)")])
def test_what_the_upstream_refuses_is_not_tried_again_and_its_words_are_passed_on(
        status: int, body: object, says: str) -> None:
    with upstream(refuses(status, body)) as server, engine_for(server.url) as engine:
        with pytest.raises(EngineFailed) as raised:
            engine.generate(chat(), run_on)
        assert says in str(raised.value)
        assert server.calls == 1


@pytest.mark.parametrize("error", [
    {"message": "too big", "code": "context_length_exceeded"},
    {"message": "This model's maximum context length is 4096 tokens. However, you requested 5000", "code": 400},
    {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."},
    {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."},
    {"message": "Range of input length should be [1, 30720]", "code": "invalid_parameter_error"}])
def test_a_prompt_over_the_upstreams_context_is_the_callers_affair(error: dict[str, object]) -> None:
    for play in (refuses(400, {"error": error}), streams({"error": error})):
        found = failure(play)
        assert isinstance(found, PromptTooLong)
        assert str(error["message"]) in str(found)


@pytest.mark.parametrize(("reason", "says"), [
    ("content_filter", "its content filter withheld the answer"), ("tool_calls", "the model called a tool"),
    ("function_call", "the model called a function")])
def test_an_answer_that_cannot_be_given_whole_fails_for_good(reason: str, says: str) -> None:
    found = failure(streams(BEGUN, delta(reason), usage(1, 1)))

    assert isinstance(found, EngineFailed)
    assert says in str(found)


def test_a_long_refusal_is_cut_short() -> None:
    assert len(str(failure(refuses(400, "x" * 100_000)))) < 1000


# stopping

@pytest.mark.parametrize("play", [wait_and_say(BEGUN), wait_and_say(delta(role="assistant")), silent])
def test_a_stopped_job_ends_at_once_while_the_upstream_is_silent_and_the_connection_is_closed(play: Play) -> None:
    with upstream(play) as server, engine_for(server.url) as engine:
        stop = threading.Event()
        ended_s: list[float] = []

        def stopped_request() -> None:
            with pytest.raises(JobStopped):
                engine.generate(chat(), stop.is_set)
            ended_s.append(time.monotonic())

        thread = threading.Thread(target=stopped_request)
        thread.start()
        wait_until(lambda: server.calls, timeout_s=10, what="the call")
        stop.set()
        stopped_s = time.monotonic()
        thread.join()
        assert ended_s[0] - stopped_s < 5, "it waited for the upstream"
        wait_until(lambda: server.hung_up == 1, timeout_s=10, what="the upstream to see that the caller left")
        figures = engine.figures()
        assert (figures["errors"], figures["breaker"]) == (0, 0)


def test_a_stopped_job_is_not_tried_again() -> None:
    with upstream(refuses(503, {})) as server, engine_for(server.url, openai_retry_s=1000.0) as engine:
        with pytest.raises(JobStopped):
            engine.generate(chat(), lambda: bool(server.calls))
        assert server.calls == 1


def test_closing_the_engine_stops_what_runs() -> None:
    with upstream(silent) as server:
        engine = OpenAIEngine(Settings(openai_url=server.url, openai_model="m"), slots=1)
        raised: list[BaseException] = []

        def request() -> None:
            with pytest.raises(JobStopped, match="the engine was closed") as caught:
                engine.generate(chat(), run_on)
            raised.append(caught.value)

        thread = threading.Thread(target=request)
        thread.start()
        wait_until(lambda: server.calls, timeout_s=10, what="the call")
        engine.close()
        thread.join()
        assert raised
