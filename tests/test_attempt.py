"""What an attempt's outcome means for its job: decided by pure functions, for any error and any number of attempts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import errors
from app.errors import EngineFailed, EngineTransient, JobStopped, StoreUnavailable, TandemError
from app.job import State
from app.ledger import Claim, Settled
from app.settings import Settings
from workers.attempt import (
    Answer,
    Attempt,
    SlotsTaken,
    TaskUnknown,
    Verdict,
    announce,
    call,
    choose,
    describe,
    verdict,
)

SECRET = "the prompt of someone else"

CLAIM = Claim(id="0198", owner="o", attempt=1, errors=0, task="model.generate", tenant="ann", input=b"{}", created_ms=0,
              deadline_ms=None, trace=None)


def tree(root: type[TandemError]) -> list[type[TandemError]]:
    """Return a class with everything below it."""
    return [root, *(each for below in root.__subclasses__() for each in tree(below))]


UNCOUNTED = [StoreUnavailable, SlotsTaken, errors.EngineUnavailable]  # nothing that the job did
HERE = {errors.__name__, SlotsTaken.__module__}  # the other modules' are there or not by what else was imported
OURS = sorted({kind for kind in tree(TandemError) if kind.__module__ in HERE} - {JobStopped, errors.SettingsError},
              key=lambda kind: kind.__name__)
COUNTED = [kind for kind in OURS if kind not in UNCOUNTED]
FOREIGN = [ValueError, KeyError, RuntimeError, MemoryError, OSError, RecursionError, UnicodeError]

MOST_ATTEMPTS = 12
any_settings = st.builds(Settings, max_attempts=st.integers(1, MOST_ATTEMPTS), retry_delay_s=st.floats(0.01, 60))
any_error = (st.sampled_from(COUNTED).map(lambda kind: kind("it broke"))
             | st.sampled_from(FOREIGN).map(lambda kind: kind(SECRET)))


# -- verdict


@given(error=any_error, settings=any_settings)
def test_a_job_that_goes_on_failing_ends_after_its_attempts_with_waits_that_double(
        error: Exception, settings: Settings) -> None:
    verdicts = [verdict(error, errors_before=0, settings=settings)]
    while verdicts[-1].state is None and len(verdicts) <= MOST_ATTEMPTS:
        verdicts.append(verdict(error, errors_before=len(verdicts), settings=settings))

    *retries, last = verdicts
    retryable = isinstance(error, TandemError) and error.retryable
    assert len(verdicts) == (settings.max_attempts if retryable else 1)
    assert [each.retry_s for each in retries] == [settings.retry_delay_s * 2**n for n in range(len(retries))]
    assert (last.state, last.retry_s) == (State.FAILED, 0.0)
    assert {each.error for each in verdicts} == {describe(error)}


@given(error=any_error, errors_before=st.integers(0, 50), settings=any_settings)
def test_a_job_with_as_many_errors_as_it_may_have_never_gets_another_attempt(
        error: Exception, errors_before: int, settings: Settings) -> None:
    judged = verdict(error, errors_before=errors_before + settings.max_attempts - 1, settings=settings)

    assert judged.state is State.FAILED


@given(result=st.none() | st.text() | st.integers(), errors_before=st.integers(0, 50), settings=any_settings)
def test_an_answer_is_a_success_whatever_came_before_it(
        result: object, errors_before: int, settings: Settings) -> None:
    assert verdict(Answer(result=result), errors_before=errors_before, settings=settings) == Verdict(state=State.SUCCEEDED)


@given(errors_before=st.integers(0, 50), settings=any_settings)
def test_a_stopped_attempt_goes_back_at_once_and_is_not_held_against_the_job(
        errors_before: int, settings: Settings) -> None:
    judged = verdict(JobStopped("the worker goes down"), errors_before=errors_before, settings=settings)

    assert judged == Verdict(state=None, error=b"", retry_s=0.0)


@given(kind=st.sampled_from(UNCOUNTED), errors_before=st.integers(0, 50), settings=any_settings)
def test_an_attempt_that_failed_for_want_of_redis_or_of_a_slot_comes_again_and_is_not_held_against_the_job(
        kind: type[TandemError], errors_before: int, settings: Settings) -> None:
    judged = verdict(kind("not now"), errors_before=errors_before, settings=settings)

    assert judged == Verdict(state=None, error=b"", retry_s=settings.retry_delay_s, why=f"{kind.code}: not now")


@given(asked_s=st.floats(0, 600), settings=any_settings)
def test_a_job_waits_as_long_as_the_models_server_asks_for(asked_s: float, settings: Settings) -> None:
    judged = verdict(errors.EngineUnavailable("busy", retry_after_s=asked_s), errors_before=0, settings=settings)

    assert (judged.state, judged.retry_s) == (None, max(asked_s, settings.retry_delay_s))


def test_the_log_says_why_a_job_waits_on(caplog: pytest.LogCaptureFixture) -> None:
    judged = verdict(errors.EngineUnavailable("no more tokens today", retry_after_s=9.0), errors_before=0,
                     settings=Settings())
    with caplog.at_level("INFO", logger="tandem"):
        assert announce(CLAIM, judged, Settled.RELEASED) == "released"

    (record,) = caplog.records
    fields = vars(record)["fields"]
    assert (fields["why"], fields["again_in_s"]) == ("engine-unavailable: no more tokens today", 9.0)


def test_with_the_shipped_settings_a_transient_error_gets_three_attempts_one_and_two_seconds_apart() -> None:
    verdicts = [verdict(EngineTransient("x"), errors_before=n, settings=Settings()) for n in range(3)]

    assert [(each.state, each.retry_s) for each in verdicts] == [(None, 1.0), (None, 2.0), (State.FAILED, 0.0)]


# -- describe


@pytest.mark.parametrize("kind", OURS)
def test_an_error_of_ours_is_told_as_it_is(kind: type[TandemError]) -> None:
    assert json.loads(describe(kind("what to do next: \N{SNOWMAN}"))) == {
        "code": kind.code, "detail": "what to do next: \N{SNOWMAN}", "fault": kind.fault.value}


@given(kind=st.sampled_from(FOREIGN), text=st.text(min_size=12))
def test_any_other_error_is_a_bug_of_ours_whose_text_stays_in_the_log(kind: type[Exception], text: str) -> None:
    told = json.loads(describe(kind(SECRET + text)))

    assert told == {"code": "internal-error", "detail": f"the worker failed ({kind.__name__}); see its log",
                    "fault": "ours"}


def test_the_error_of_a_job_that_failed_through_a_bug_does_not_show_its_text() -> None:
    judged = verdict(ValueError(SECRET), errors_before=0, settings=Settings())

    assert judged.state is State.FAILED
    assert SECRET not in judged.error.decode()


def test_an_error_whose_text_is_no_text_is_told_all_the_same() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise TypeError

    assert json.loads(describe(Odd()))["code"] == "internal-error"


# -- choose


def test_the_code_for_a_task_is_the_one_registered_for_it() -> None:
    codes = {"model.generate": lambda _: Answer(result=1), "chat.reply": lambda _: Answer(result=2)}

    assert choose(CLAIM, codes) is codes["model.generate"]


def test_a_task_that_this_worker_lacks_is_left_to_a_worker_that_has_it() -> None:
    code = choose(CLAIM, {"chat.reply": lambda _: Answer(result=None)})

    outcome = call(code, Attempt(CLAIM, None, lambda: False))  # type: ignore[arg-type]
    assert isinstance(outcome, TaskUnknown)
    assert "no code for the task 'model.generate'" in str(outcome)
    assert verdict(outcome, errors_before=0, settings=Settings()).state is None, "it should be tried elsewhere"


def test_every_error_says_whether_to_try_again() -> None:
    assert {kind.__name__ for kind in OURS if kind.retryable} == {
        "StoreUnavailable", "SlotsTaken", "EngineTransient", "EngineUnavailable", "EngineOutOfMemory", "TaskUnknown",
        "LimitExceeded", "ReducedCapacity", "RequestTimeout", "Diverged"}
    assert not EngineFailed.retryable
