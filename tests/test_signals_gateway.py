"""What a gateway measures of its requests, and tells: times, failures and callers, each by its own rule."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import redis
from werkzeug.test import TestResponse

from app.accounts import Accounts
from app.api import Gateway as Parts
from app.errors import StoreUnavailable
from app.job import State
from app.ledger import Claim, Ending, Ledger, Piece, Saying, Voice, new_owner
from app.routing_records import Shed
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signal_times import times
from app.signals import GatewayReport
from ops.waiting import wait_until
from tests.gateway import Gateway
from tests.ledger_cloud import travel
from tests.model_ledger import PLACE

COMPLETION = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
ANSWER = Ending(result=b'{"text": "Hello there", "finish_reason": "stop"}',
                usage=b'{"prompt_tokens": 1, "completion_tokens": 2}')
UNKNOWN = "01990000-0000-7000-8000-000000000000"


@pytest.fixture
def gateway(settings: Settings, client: redis.Redis) -> Iterator[Gateway]:
    one = Gateway(settings, client)
    yield one
    parts(one).announcements.stop()
    parts(one).streams.close()


def parts(gateway: Gateway) -> Parts:
    found: Parts = gateway.app.extensions["tandem"]
    return found


def reported(gateway: Gateway, client: redis.Redis, later_s: float = 0.0) -> GatewayReport:
    """What the gateway tells now, or would tell so much later."""
    parts(gateway).reporter.report(time.monotonic() + later_s)
    [report] = SignalBoard(client).gateways("gateway")
    return report


def counted(gateway: Gateway, client: redis.Redis) -> tuple[int, int, int, int]:
    """How many calls, answers, requests and failed requests it tells of."""
    report = reported(gateway, client)
    return sum(report.calls.counts), sum(report.answers.counts), report.requests, report.requests_failed


# -- calls


def test_submits_and_polls_are_calls(gateway: Gateway, client: redis.Redis) -> None:
    job_id = gateway.submit()
    gateway.call("GET", f"/v1/jobs/{job_id}")
    gateway.call("GET", "/v1/jobs")
    gateway.call("DELETE", f"/v1/jobs/{job_id}")

    assert counted(gateway, client) == (4, 0, 4, 0)
    assert 0 < reported(gateway, client).calls.total_s < 4


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", f"/v1/jobs/{UNKNOWN}", 404), ("GET", "/nowhere", 404), ("PATCH", "/v1/jobs", 405), ("POST", "/v1/jobs", 415),
    ("GET", "/v1/status", 403)])
def test_what_callers_got_wrong_does_not_count(
        gateway: Gateway, client: redis.Redis, method: str, path: str, status: int) -> None:
    assert gateway.call(method, path).status_code == status
    assert counted(gateway, client) == (0, 0, 0, 0)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/openapi.json", "/static/chat.css"])
def test_looks_after_the_gateway_and_pages_do_not_count(gateway: Gateway, client: redis.Redis, path: str) -> None:
    assert gateway.call("GET", path).status_code == 200
    assert counted(gateway, client) == (0, 0, 0, 0)


@pytest.mark.parametrize("wait", [{"query_string": {"wait": "0.01"}}, {"headers": {"Prefer": "wait=1"}}])
def test_a_long_poll_is_a_request_and_its_time_says_nothing(
        gateway: Gateway, client: redis.Redis, wait: dict[str, Any]) -> None:
    job_id = gateway.submit()
    gateway.call("GET", f"/v1/jobs/{job_id}", **wait)

    assert counted(gateway, client) == (1, 0, 2, 0)


def test_a_stream_of_events_is_a_request_and_its_time_says_nothing(gateway: Gateway, client: redis.Redis) -> None:
    job_id = gateway.submit()
    gateway.call("DELETE", f"/v1/jobs/{job_id}")
    assert gateway.call("GET", f"/v1/jobs/{job_id}/events").status_code == 200

    assert counted(gateway, client) == (2, 0, 3, 0)


# -- failures


@pytest.mark.parametrize("error", [RuntimeError("a bug"), StoreUnavailable("Redis is away")])
def test_what_fails_by_our_fault_counts_as_failed(gateway: Gateway, client: redis.Redis, error: Exception) -> None:
    def crash() -> str:
        raise error

    gateway.app.add_url_rule("/v1/crash", view_func=crash)
    assert gateway.call("GET", "/v1/crash").status_code >= 500
    gateway.submit()

    assert counted(gateway, client)[2:] == (2, 1)


@pytest.mark.parametrize("more", [{}, {"stream": True}], ids=["whole", "streamed"])
@pytest.mark.parametrize(("state", "status"), [(State.FAILED, 502), (State.EXPIRED, 504)])
def test_a_completion_whose_job_failed_is_no_failure_of_the_gateway(
        gateway: Gateway, client: redis.Redis, settings: Settings, asking: Callable[..., Future[TestResponse]],
        more: dict[str, Any], state: State, status: int) -> None:
    asked = asking("/v1/chat/completions", json=COMPLETION | more)
    Worker(client, settings).end(after_s=0.1, state=state, ending=Ending(error=b'{"code": "engine-failed"}'))
    assert asked.result(timeout=20).status_code == status
    assert counted(gateway, client)[2:] == (1, 0), "the worker counts it, on whichever server that is"


def test_what_is_refused_for_too_much_work_does_not_count(gateway: Gateway, client: redis.Redis) -> None:
    client.set("routing:shed", msgspec.json.encode(Shed(lanes=("standard", "interactive"))))
    assert counted(gateway, client) == (0, 0, 0, 0)  # and with its report it reads what to refuse

    refused = gateway.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "hello"}})
    also = gateway.call("POST", "/v1/chat/completions", json=COMPLETION)
    assert (refused.status_code, also.status_code) == (503, 503), refused.text + also.text
    assert counted(gateway, client) == (0, 0, 0, 0)


def test_a_login_that_is_turned_away_for_too_many_does_not_count(
        gateway: Gateway, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.auth._MOST_WAITING", -1)
    refused = gateway.call("POST", "/v1/auth/login", json={"username": "ann", "password": "a long password"})
    assert refused.status_code == 503, refused.text
    assert counted(gateway, client) == (0, 0, 0, 0)


# -- answers


@pytest.fixture
def asking(gateway: Gateway) -> Iterator[Callable[..., Future[TestResponse]]]:
    """Makes a call that waits for a job."""
    with ThreadPoolExecutor() as pool:
        yield lambda *arguments, **options: pool.submit(gateway.call, "POST", *arguments, **options)


class Worker:
    """Does the one job that waits, in a time of its own, which begins when the job was accepted."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        [job_id] = wait_until(lambda: client.zrange("waiting:model", 0, -1), timeout_s=10, what="a job")
        created_ms = int(client.hget(f"job:{job_id.decode()}", "created_ms"))
        self.ledger = Ledger(client, settings, now_ms=created_ms)
        claim = self.ledger.claim(job_id.decode(), PLACE, owner=new_owner())
        assert isinstance(claim, Claim)
        self.claim = claim

    def say(self, position: int, text: str, *, after_s: float) -> None:
        travel(after_s, self.ledger)
        self.ledger.say([Saying(self.claim, Piece(1, position, Voice.CONTENT, text))])

    def end(self, *, after_s: float, state: State = State.SUCCEEDED, ending: Ending = ANSWER) -> None:
        travel(after_s, self.ledger)
        self.ledger.settle(self.claim, state, ending)


ASKED = [("/v1/jobs", {"json": {"service": "model", "input": {"prompt": "hello"}}, "headers": {"Prefer": "wait=30"}}),
         ("/v1/chat/completions", {"json": COMPLETION})]


@pytest.mark.parametrize(("path", "options"), ASKED)
def test_a_slow_answer_that_began_soon_is_a_quick_one(
        gateway: Gateway, client: redis.Redis, settings: Settings, asking: Callable[..., Future[TestResponse]], path: str,
        options: dict[str, Any]) -> None:
    asked = asking(path, **options)
    worker = Worker(client, settings)
    worker.say(5, "Hello", after_s=0.3)
    worker.say(11, " there", after_s=10.0)
    worker.end(after_s=10.0)
    answer = asked.result(timeout=20)

    assert (answer.status_code, "Hello there" in answer.text) == (200, True)
    assert counted(gateway, client) == (0, 1, 1, 0)
    assert times(reported(gateway, client).answers).mean_s == pytest.approx(0.3)


@pytest.mark.parametrize(("path", "options"), ASKED)
def test_an_answer_without_a_word_before_its_end_was_waited_for_until_then(
        gateway: Gateway, client: redis.Redis, settings: Settings, asking: Callable[..., Future[TestResponse]], path: str,
        options: dict[str, Any]) -> None:
    asked = asking(path, **options)
    Worker(client, settings).end(after_s=7.5)
    asked.result(timeout=20)

    assert counted(gateway, client) == (0, 1, 1, 0)
    assert times(reported(gateway, client).answers).mean_s == pytest.approx(7.5)


def test_an_answer_that_goes_on_counts_once_its_first_word_is_there(
        gateway: Gateway, client: redis.Redis, settings: Settings, asking: Callable[..., Future[TestResponse]]) -> None:
    asked = asking(ASKED[0][0], **ASKED[0][1])
    worker = Worker(client, settings)
    worker.say(5, "Hello", after_s=0.3)
    later = reported(gateway, client, later_s=5.0).answers
    worker.end(after_s=20)
    asked.result(timeout=20)

    assert (sum(later.counts), later.total_s) == (1, pytest.approx(0.3))
    assert sum(reported(gateway, client, later_s=6.0).answers.counts) == 1, "and not again with its end"


def test_an_answer_that_does_not_come_counts_as_long_as_it_is_waited_for(
        gateway: Gateway, client: redis.Redis, settings: Settings, asking: Callable[..., Future[TestResponse]]) -> None:
    asked = asking(ASKED[0][0], **ASKED[0][1])
    worker = Worker(client, settings)
    old, older = (reported(gateway, client, later_s=later_s).answers for later_s in (30.0, 40.0))
    worker.end(after_s=2.5)
    asked.result(timeout=20)

    assert (sum(old.counts), sum(older.counts)) == (1, 1)
    assert 30 <= old.total_s < 40 <= older.total_s < 50
    assert reported(gateway, client, later_s=41.0).answers.total_s == pytest.approx(2.5), "in the end it took so long"


def test_a_stream_counts_with_its_first_word_while_it_goes_on(
        gateway: Gateway, client: redis.Redis, settings: Settings, asking: Callable[..., Future[TestResponse]]) -> None:
    asked = asking("/v1/chat/completions", json=COMPLETION | {"stream": True})
    worker = Worker(client, settings)
    worker.say(5, "Hello", after_s=0.0)
    answer = asked.result(timeout=20)

    assert counted(gateway, client) == (0, 1, 1, 0)
    assert 0 < reported(gateway, client).answers.total_s < 15
    worker.say(11, " there", after_s=20)
    worker.end(after_s=1)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert counted(gateway, client) == (0, 1, 1, 0)


def test_a_wait_that_ends_without_a_word_took_at_least_so_long(gateway: Gateway, client: redis.Redis) -> None:
    answer = gateway.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "hello"}},
                          headers={"Prefer": "wait=1"})

    assert answer.status_code == 202
    assert counted(gateway, client) == (0, 1, 1, 0)
    assert 1.0 <= reported(gateway, client).answers.total_s < 10


def test_a_repeated_request_is_not_waited_for_again(
        gateway: Gateway, client: redis.Redis, settings: Settings, asking: Callable[..., Future[TestResponse]]) -> None:
    path, options = ASKED[0][0], ASKED[0][1] | {"headers": {"Prefer": "wait=30", "Idempotency-Key": "k"}}
    asked = asking(path, **options)
    Worker(client, settings).end(after_s=7.5)
    asked.result(timeout=20)
    assert gateway.call("POST", path, **options).headers["Idempotency-Replayed"] == "true"

    assert counted(gateway, client) == (0, 1, 2, 0)


# -- callers


def test_an_account_is_one_user_whatever_it_shows_and_wherever(
        gateway: Gateway, settings: Settings, client: redis.Redis) -> None:
    other_gateway = Gateway(settings, client, name="second")
    stranger = gateway.another("third")
    begun = parts(gateway).sessions.begin("first", gateway.account.id, version=gateway.account.version)
    assert begun
    second_key, _ = Accounts(client).add_key(gateway.account, "another")
    with gateway.app.app_context():
        shown = [gateway.key, second_key, parts(gateway).tokens.make(begun[0])]
    for app in (gateway.app, other_gateway.app):
        for credentials in shown:
            answer = app.test_client().get("/v1/jobs", headers={"Authorization": f"Bearer {credentials}"})
            assert answer.status_code == 200, answer.text
    stranger.call("GET", f"/v1/jobs/{UNKNOWN}")

    for one in (gateway, other_gateway):
        parts(one).reporter.report(time.monotonic())
    assert SignalBoard(client).users() == 2


def test_who_shows_nothing_that_is_good_is_nobody(gateway: Gateway, client: redis.Redis) -> None:
    gateway.call("GET", "/v1/jobs", headers={"Authorization": "Bearer none"})
    gateway.call("GET", "/healthz")

    parts(gateway).reporter.report(time.monotonic())
    assert SignalBoard(client).users() == 0
