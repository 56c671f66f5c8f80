"""Answers that came from the cloud, kept for who asks the same again, where the same model is served at home."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from app.answers import Answers
from app.job import NewJob
from app.ledger import Claim, CloudLedger, Ledger, Place
from app.model_names import ModelNames
from app.response_cache import ResponseCache
from app.routing_rules import Rules
from app.settings import Settings
from ops.waiting import wait_until
from tests.model_ledger import a_job
from workers.answer_keeping import AnswerKeeping

MODEL = "scripted"  # that is served here
OUT_THERE = Place(worker="cloud@a", server="cloud", processor="")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, engine=MODEL)


@pytest.fixture
def answers(client: redis.Redis, settings: Settings) -> Answers:
    return Answers(ResponseCache(settings, client), ModelNames(client, settings), settings)


@pytest.fixture
def begin(client: redis.Redis, settings: Settings) -> Callable[[NewJob], Claim]:
    """Submit a job and have it begun in the cloud."""
    def begun(job: NewJob) -> Claim:
        cloud = CloudLedger(client, settings)
        sent = cloud.send_job(Ledger(client, settings).submit(job).job_id, decision=b"{}", rules=Rules())
        assert isinstance(sent, Claim)
        claim = cloud.begin(job.id, sent.owner, OUT_THERE, run=f"{sent.owner}.1")
        assert claim
        return claim

    return begun


class Noting(AnswerKeeping):
    """Notes what it is to keep."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str]] = []

    def keep(self, tenant: str, mark: str, result: bytes, usage: bytes, model: str) -> None:  # noqa: ARG002 - as it is called
        self.noted.append((mark, model))


def test_who_asks_again_what_was_answered_in_the_cloud_is_answered_from_the_cache(
        client: redis.Redis, settings: Settings, answers: Answers, begin: Callable[[NewJob], Claim]) -> None:
    job = a_job(fingerprint="f")
    keep = AnswerKeeping(answers).from_elsewhere(ModelNames(client, settings))
    keep(begin(job), b'{"text":"so","model":"scripted"}', b"{}")

    found = wait_until(lambda: answers.find(job), timeout_s=10, what="the answer to be kept")
    assert found is not None
    assert (found.result, found.usage) == (b'{"text":"so","model":"scripted"}', b"{}")


@pytest.mark.parametrize(("fingerprint", "result", "noted"), [
    ("f", b'{"text":"so","model":"scripted"}', [("f", MODEL)]), ("f", b'{"text":"so","model":"another"}', []),
    ("f", b'{"text":"so"}', []), (None, b'{"text":"so","model":"scripted"}', [])])
def test_only_what_is_deterministic_and_of_the_model_served_here_is_kept(
        client: redis.Redis, settings: Settings, begin: Callable[[NewJob], Claim], fingerprint: str | None, result: bytes,
        noted: list[tuple[str, str]]) -> None:
    noting = Noting()
    noting.from_elsewhere(ModelNames(client, settings))(begin(a_job(fingerprint=fingerprint)), result, b"{}")

    assert noting.noted == noted
