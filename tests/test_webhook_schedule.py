"""When a webhook that failed is tried again, and when no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from app.webhook_deliveries import Verdict
from workers.delivery_schedule import Outcome, decide

SETTINGS = Settings()
FAILED = Outcome(error="no answer within 15 s")


def delays(chance: float) -> list[float]:
    return [decide(FAILED, attempts=number, settings=SETTINGS, chance=chance)[1]
            for number in range(1, SETTINGS.webhook_attempts)]


def test_attempts_grow_apart_from_seconds_to_half_a_day_and_cover_a_day() -> None:
    assert [round(delay_s) for delay_s in delays(0.5)] == [5, 25, 125, 625, 3125, 15625, 43200, 43200]
    assert 86_400 < sum(delays(0.5)) < 2 * 86_400


@given(st.floats(0, 1))
def test_chance_makes_a_delay_a_fifth_shorter_or_longer_at_most(chance: float) -> None:
    assert all(0.79 < delay_s / middle_s < 1.21 for delay_s, middle_s in zip(delays(chance), delays(0.5), strict=True))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_status_of_2xx_is_done(status: int) -> None:
    assert decide(Outcome(status=status), attempts=1, settings=SETTINGS, chance=0) == (Verdict.DONE, 0)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 408, 429, 500, 503])
def test_any_other_is_tried_again_until_the_last(status: int) -> None:
    outcome = Outcome(status=status, error=f"answered {status}")

    assert decide(outcome, attempts=1, settings=SETTINGS, chance=0)[0] is Verdict.AGAIN
    assert decide(outcome, attempts=SETTINGS.webhook_attempts, settings=SETTINGS, chance=0) == (Verdict.DEAD, 0)


def test_gone_is_the_end_at_once() -> None:
    assert decide(Outcome(status=410), attempts=1, settings=SETTINGS, chance=0) == (Verdict.DEAD, 0)


@given(asked_s=st.floats(0, 1e12), attempts=st.integers(1, 8))
def test_a_receiver_may_ask_for_a_longer_delay_but_for_none_longer_than_the_longest(asked_s: float, attempts: int) -> None:
    outcome = Outcome(status=503, retry_after_s=asked_s)
    _, usual_s = decide(FAILED, attempts=attempts, settings=SETTINGS, chance=0.5)
    verdict, delay_s = decide(outcome, attempts=attempts, settings=SETTINGS, chance=0.5)

    assert (verdict, delay_s) == (Verdict.AGAIN, max(usual_s, min(asked_s, 43_200)))
