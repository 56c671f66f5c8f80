"""Our wake-up is what Celery itself would have written, and any Celery worker can run it.

Both sides are real: Celery publishes through kombu to the same Redis, and a stock worker that knows nothing of Tandem
consumes what the ledger pushed.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis
from celery import signals
from celery.contrib.testing.worker import start_worker
from kombu import Exchange, Queue

from app.job import Service
from app.ledger import Ledger
from app.ledger.wakeup import ORIGIN
from ops.embedded_redis import EmbeddedRedis
from ops.waiting import wait_until
from tests.model_ledger import a_job

TASK = "model.run"


@pytest.fixture
def stock_app(redis_server: EmbeddedRedis) -> Iterator[celery.Celery]:
    """A Celery app with its queue on the default exchange, and no other setting that touches messages."""
    queue = Queue("model", exchange=Exchange(""), routing_key="model")
    with celery.Celery("stock", broker=redis_server.url, set_as_current=False) as app:
        app.conf.update(task_queues=[queue], task_default_queue="model", task_default_exchange="",
                        task_default_routing_key="model", worker_hijack_root_logger=False,
                        broker_connection_retry_on_startup=True)
        yield app


@pytest.fixture(autouse=True)
def logging_stays() -> Iterator[None]:
    """Keep a worker that runs in this process from setting up the logging, which would outlive it."""
    def nothing(**_: object) -> None: ...

    signals.setup_logging.connect(nothing)
    yield
    signals.setup_logging.disconnect(nothing)


def wake_up(client: redis.Redis) -> dict[str, Any]:
    """Take the one message of the queue and decode it, body included."""
    assert client.llen("model") == 1
    message: dict[str, Any] = json.loads(client.rpop("model") or b"")
    message["body"] = json.loads(base64.b64decode(message["body"]))
    return message


def test_our_wakeup_is_the_message_that_celery_writes_for_the_same_task(
        ledger: Ledger, client: redis.Redis, stock_app: celery.Celery) -> None:
    def run() -> None: ...

    task = stock_app.task(run, name=TASK, ignore_result=True, shared=False)
    new = a_job()
    ledger.submit(new)
    ours = wake_up(client)
    task.apply_async(task_id=new.id)
    theirs = wake_up(client)

    # A delivery tag names one delivery, for acks; it has to be unique and may be any text.
    tags = [message["properties"].pop("delivery_tag") for message in (ours, theirs)]
    assert len(set(tags)) == 2
    # The origin says who published: "gen<pid>@<host>" there, the ledger here, which is no process.
    assert ours["headers"].pop("origin") == ORIGIN
    assert theirs["headers"].pop("origin").startswith("gen")
    # Celery names a queue of the publishing process for replies, which only the rpc:// result backend reads. Nobody
    # waits for a reply to a wake-up: results are in the ledger.
    assert ours["properties"].pop("reply_to") == ""
    assert theirs["properties"].pop("reply_to")

    assert ours == theirs


def test_the_same_job_woken_again_has_another_delivery_tag(ledger: Ledger, client: redis.Redis) -> None:
    ledger.now_ms = 1_800_000_000_000
    ledger.submit(a_job())
    first = wake_up(client)
    ledger.now_ms += 5000
    ledger.rewake(Service.MODEL)
    second = wake_up(client)

    assert first["properties"].pop("delivery_tag") != second["properties"].pop("delivery_tag")
    assert first == second


@pytest.mark.parametrize("times", [1, 3])
def test_a_stock_celery_worker_runs_our_wakeup_under_the_jobs_id(
        ledger: Ledger, client: redis.Redis, stock_app: celery.Celery, times: int) -> None:
    requests: list[tuple[str, str | None, list[Any], dict[str, Any], str]] = []

    def run(task: Any) -> None:
        seen = task.request
        requests.append((seen.id, seen.root_id, list(seen.args), seen.kwargs, seen.delivery_info["routing_key"]))

    stock_app.task(run, name=TASK, bind=True, shared=False)
    ids = [ledger.submit(a_job()).job_id for _ in range(times)]
    with start_worker(stock_app, pool="solo", loglevel="error", perform_ping_check=False, shutdown_timeout=20):
        wait_until(lambda: len(requests) == times, timeout_s=20, what="the stock worker to run the wake-ups")

    assert requests == [(job_id, job_id, [], {}, "model") for job_id in ids]
    assert client.llen("model") == 0
    assert client.hlen("unacked") == 0, "the worker acknowledged what it took"
