"""How long to wait before an upstream is asked again: pure parts."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.openai_engine import retry_wait_s
from workers.engine.upstream_failure import retry_after

ODD = ["Mon, 01 Jan 2024 00:00:00 +99999999999999", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
       "Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 99 Jan 2024 00:00:00 GMT",
       "Mon, 01 Jan 0001 00:00:00 -0000", ",", "-1", "1e9", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 400, "nan"]


@given(tries=st.integers(1, 1000))
def test_waits_double_up_to_a_bound_and_differ_by_chance(tries: int) -> None:
    longest = min(0.5 * 2.0 ** min(tries - 1, 50), 8.0)

    assert longest / 2 <= retry_wait_s(tries) <= longest


def test_retry_after_is_seconds_or_a_date_and_ten_minutes_at_most() -> None:
    assert (retry_after({"retry-after": "7"}), retry_after({"retry-after": "1.5"})) == (7.0, 1.5)
    assert (retry_after({}), retry_after({"retry-after": "soon"})) == (None, None)
    assert retry_after({"retry-after": formatdate(time.time() - 60, usegmt=True)}) == 0
    assert 500 < (retry_after({"retry-after": formatdate(time.time() + 590, usegmt=True)}) or 0) <= 590
    assert retry_after({"retry-after": formatdate(time.time() + 3600, usegmt=True)}) == 600
    assert retry_after({"retry-after": "86400"}) == 600


@pytest.mark.parametrize("asked", ODD)
def test_an_odd_retry_after_is_a_wait_or_none(asked: str) -> None:
    assert 0 <= (retry_after({"retry-after": asked}) or 0) <= 600


@given(asked=st.text() | st.builds(
    "Mon, {} Jan {} {}:{}:{} {}".format, *[st.integers(-10**6, 10**12) | st.integers(0, 60)] * 5,
    st.sampled_from(["GMT", "+0100", "-0000", "+9999", "+99999999999", "-2400", ""])))
def test_no_retry_after_is_too_odd(asked: str) -> None:
    assert 0 <= (retry_after({"retry-after": asked}) or 0) <= 600
