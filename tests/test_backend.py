"""Celery's view of a job: what the ledger says, in Celery's words, and nothing of its own."""

import json

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from app.errors import JobGone, JobUnknown
from app.job import Job, Lane, Route, Service, State, new_job_id
from app.ledger import Claim, Ending, Ledger, new_owner
from app.settings import Settings
from tests.model_ledger import PLACE, a_job, a_running_job, everything
from workers.application import make_app
from workers.backend import JobFailed, meta

ERROR = json.dumps({"code": "engine-failed", "detail": "it broke", "fault": "engine"}).encode()


def a_record(state: State, **changes: object) -> Job:
    """Return a job as the ledger reads it."""
    fields: dict[str, object] = {
        "id": "0198", "service": Service.MODEL, "task": "model.generate", "tenant": "ann", "state": state,
        "lane": Lane.STANDARD, "route": Route.LOCAL, "attempt": 1, "created_ms": 0}
    return Job(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "status"), [
    (State.QUEUED, "PENDING"), (State.RUNNING, "STARTED"), (State.SUCCEEDED, "SUCCESS"), (State.FAILED, "FAILURE"),
    (State.CANCELLED, "REVOKED"), (State.EXPIRED, "REVOKED")])
def test_each_state_has_a_name_of_celerys(state: State, status: str) -> None:
    assert meta(a_record(state))["status"] == status


def test_the_meta_says_whose_task_it_is_and_when_it_ended() -> None:
    told = meta(a_record(State.SUCCEEDED, attempt=3, finished_ms=1_800_000_000_123, worker="model@server-1"))

    assert (told["task_id"], told["name"], told["queue"], told["worker"]) == (
        "0198", "model.generate", "model", "model@server-1")
    assert (told["retries"], told["date_done"]) == (2, "2027-01-15T08:00:00.123Z")


def test_a_job_that_never_started_has_no_retries() -> None:
    assert meta(a_record(State.QUEUED, attempt=0))["retries"] == 0


@pytest.mark.parametrize(("stored", "result"), [(b'{"text": "hi"}', {"text": "hi"}), (b"[1]", [1]), (None, None)])
def test_a_success_carries_its_result(stored: bytes | None, result: object) -> None:
    assert meta(a_record(State.SUCCEEDED, result=stored))["result"] == result


def test_a_failure_carries_its_error_as_an_exception() -> None:
    result = meta(a_record(State.FAILED, error=ERROR))["result"]

    assert isinstance(result, JobFailed)
    assert str(result) == "engine-failed: it broke"


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED])
def test_a_job_that_was_ended_from_outside_carries_why(state: State) -> None:
    result = meta(a_record(state, error=b'{"code": "expired", "detail": "too late"}'))["result"]

    assert isinstance(result, TaskRevokedError)
    assert str(result) == "expired: too late"
    assert str(meta(a_record(state))["result"]) == f"job 0198 is {state}"


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_a_job_under_way_has_no_result(state: State) -> None:
    assert meta(a_record(state))["result"] is None


# -- through Celery


@pytest.fixture
def app(settings: Settings) -> Celery:
    return make_app(settings)


def test_asyncresult_follows_a_job_through_the_ledger(app: Celery, ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id
    assert AsyncResult(job_id, app=app).state == "PENDING"

    claim = ledger.claim(job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    assert AsyncResult(job_id, app=app).state == "STARTED"

    ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text": "hi"}'))
    result = AsyncResult(job_id, app=app)
    assert (result.state, result.get(timeout=5)) == ("SUCCESS", {"text": "hi"})


def test_getting_a_failed_job_raises_its_error(app: Celery, ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.settle(claim, State.FAILED, Ending(error=ERROR))

    with pytest.raises(JobFailed, match="engine-failed: it broke"):
        AsyncResult(claim.id, app=app).get(timeout=5)


def test_getting_a_cancelled_job_raises_that_it_was_revoked(app: Celery, ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id
    ledger.cancel(job_id)

    with pytest.raises(TaskRevokedError, match="cancelled by the caller"):
        AsyncResult(job_id, app=app).get(timeout=5)


def test_an_id_that_nobody_submitted_is_unknown_and_never_pending(app: Celery, client: redis.Redis) -> None:
    with pytest.raises(JobUnknown):
        _ = AsyncResult(new_job_id(), app=app).state


def test_a_job_past_its_retention_is_gone(client: redis.Redis, settings: Settings) -> None:
    short = Settings(redis_url=settings.redis_url, retention_s=0.001)
    ledger = Ledger(client, short)
    claim = a_running_job(ledger)
    ledger.settle(claim, State.SUCCEEDED)
    ledger.now_ms = 1_000 * client.time()[0] + 10_000
    assert ledger.purge() == 1

    with pytest.raises(JobGone):
        _ = AsyncResult(claim.id, app=make_app(short)).state


def test_the_backend_writes_nothing(app: Celery, ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    before = everything(client)

    app.backend.store_result(claim.id, "another result", "SUCCESS")
    app.backend.mark_as_done(claim.id, "another result")
    app.backend.mark_as_failure(claim.id, ValueError("x"))
    app.backend.cleanup()

    assert everything(client) == before
    assert AsyncResult(claim.id, app=app).state == "STARTED"
