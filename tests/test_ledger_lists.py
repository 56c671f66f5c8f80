"""A tenant's own jobs are listed newest first, a page at a time, each once, whatever is submitted meanwhile."""

import hypothesis
import msgspec
import pytest
import redis
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.job import State, new_job_id
from app.ledger import Ending, Ledger, Submitted
from app.ledger.ledger import _MOST_LOOKED
from app.settings import Settings
from tests.model_ledger import a_job, a_running_job

NOW_MS = 1_800_000_000_000
AN_ID = "0198c0de-0000-7000-8000-000000000001"


@pytest.fixture
def ledger(client: redis.Redis, settings: Settings) -> Ledger:
    return Ledger(client, settings, now_ms=NOW_MS)


def own(ledger: Ledger, number: int = 1, **changes: object) -> list[str]:
    return [ledger.submit(a_job(metered=True, **changes)).job_id for _ in range(number)]


def all_pages(ledger: Ledger, limit: int, state: State | None = None, tenant: str = "ann") -> list[str]:
    """Return the ids of all pages, first to last."""
    ids, page = [], ledger.page(tenant, limit=limit, state=state)
    while True:
        assert len(page.jobs) <= limit
        ids += [job.id for job in page.jobs]
        if page.cursor is None:
            return ids
        page = ledger.page(tenant, limit=limit, state=state, before=page.cursor)


@hypothesis.settings(max_examples=20, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(gaps_ms=st.lists(st.sampled_from((0, 0, 0, 1, 1000)), max_size=40), limit=st.integers(1, 12),
                  cancelled=st.sets(st.integers(0, 39)), state=st.sampled_from((None, State.QUEUED, State.CANCELLED)))
def test_pages_hold_every_job_once_newest_first_also_of_one_millisecond(
        client: redis.Redis, settings: Settings, gaps_ms: list[int], limit: int, cancelled: set[int],
        state: State | None) -> None:
    client.flushall()
    ledger = Ledger(client, settings, now_ms=NOW_MS)
    accepted = []
    for number, gap_ms in enumerate(gaps_ms):
        ledger.now_ms = (ledger.now_ms or 0) + gap_ms
        [job_id] = own(ledger)
        if number in cancelled:
            ledger.cancel(job_id)
        if state is None or (state is State.CANCELLED) == (number in cancelled):
            accepted.append((ledger.now_ms, job_id))

    assert all_pages(ledger, limit, state) == [job_id for _, job_id in sorted(accepted, reverse=True)]


def test_hundreds_of_one_millisecond_are_paged_through(ledger: Ledger) -> None:
    ids = own(ledger, 350)

    assert all_pages(ledger, 60) == sorted(ids, reverse=True)


def test_a_cursor_holds_while_jobs_come_and_go(ledger: Ledger) -> None:
    ids = own(ledger, 30)
    page = ledger.page("ann", limit=10)
    own(ledger, 15)
    ledger.cancel(ids[3])

    assert page.cursor
    rest = ledger.page("ann", limit=100, before=page.cursor)
    assert [job.id for job in rest.jobs] == sorted(ids, reverse=True)[10:]


def test_a_rare_state_is_found_behind_many_others_a_bounded_look_at_a_time(ledger: Ledger) -> None:
    [rare] = own(ledger)
    ledger.cancel(rare)
    ledger.now_ms = NOW_MS + 1
    own(ledger, _MOST_LOOKED + 100)

    first = ledger.page("ann", state=State.CANCELLED)
    assert first.jobs == []
    assert first.cursor
    assert [job.id for job in ledger.page("ann", state=State.CANCELLED, before=first.cursor).jobs] == [rare]


def test_others_jobs_and_parts_are_not_listed(ledger: Ledger) -> None:
    [mine], theirs = own(ledger), own(ledger, 2, tenant="bob")
    ledger.submit(a_job(parent=mine))

    assert all_pages(ledger, 10) == [mine]
    assert sorted(all_pages(ledger, 10, tenant="bob")) == sorted(theirs)
    assert all_pages(ledger, 10, tenant="nobody") == []


def test_what_is_past_retention_is_not_listed(ledger: Ledger, settings: Settings) -> None:
    old, live = own(ledger)[0], own(ledger)[0]
    ledger.cancel(old)
    ledger.now_ms = NOW_MS + round(settings.retention_s * 1000)
    ledger.purge()

    assert all_pages(ledger, 10) == [live]


def test_a_listed_job_is_the_job_without_what_may_be_large(ledger: Ledger) -> None:
    claim = a_running_job(ledger, metered=True)
    ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text": "long"}', usage=b'{"prompt_tokens": 3}'))

    [listed] = ledger.page("ann").jobs
    assert listed == msgspec.structs.replace(ledger.read(claim.id), input=b"{}", result=None, recorded=0)


@pytest.mark.parametrize("cursor", ["x", "1:2", f"-1:{AN_ID}", f"1800000000000000:{AN_ID}", ":", "٣:"])
def test_a_cursor_that_no_page_gave_is_refused(ledger: Ledger, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        ledger.page("ann", before=cursor)


def test_jobs_are_read_together_in_the_order_asked_for(ledger: Ledger, settings: Settings) -> None:
    [gone], [mine], [theirs] = own(ledger), own(ledger), own(ledger, tenant="bob")
    ledger.cancel(gone)
    ledger.now_ms = NOW_MS + round(settings.retention_s * 1000)
    ledger.purge()

    found = ledger.read_all([theirs, new_job_id(), gone, mine, mine], "ann")
    assert [job and job.id for job in found] == [None, None, None, mine, mine]
    assert found[3] == ledger.read(mine)
    assert [job and job.id for job in ledger.read_all([theirs, mine])] == [theirs, mine]
    assert ledger.read_all([]) == []


# -- ids that the caller chose


def again(ledger: Ledger, job_id: str, **changes: object) -> Submitted:
    return ledger.submit(a_job(id=job_id, **changes)).outcome


def test_an_id_that_comes_again_is_known_only_with_the_same_request_of_the_same_tenant(ledger: Ledger) -> None:
    [job_id] = own(ledger)

    assert again(ledger, job_id) is Submitted.KNOWN
    assert again(ledger, job_id, digest="other") is Submitted.MISMATCH
    assert again(ledger, job_id, tenant="bob") is Submitted.TAKEN
    assert again(ledger, job_id, tenant="bob", idempotency_key="k") is Submitted.TAKEN
    ledger.cancel(job_id)
    assert again(ledger, job_id) is Submitted.KNOWN
    assert ledger.census().counts["accepted"] == 1


def test_an_id_past_retention_is_gone_for_its_tenant_and_taken_for_others(ledger: Ledger, settings: Settings) -> None:
    [job_id] = own(ledger)
    ledger.cancel(job_id)
    ledger.now_ms = NOW_MS + round(settings.retention_s * 1000)
    ledger.purge()

    assert again(ledger, job_id) is Submitted.GONE
    assert again(ledger, job_id, digest="other") is Submitted.GONE
    assert again(ledger, job_id, tenant="bob") is Submitted.TAKEN
    assert ledger.census().counts["accepted"] == 1


def test_a_key_counts_before_the_id_that_comes_with_it(ledger: Ledger) -> None:
    first = ledger.submit(a_job(idempotency_key="k")).job_id

    assert again(ledger, first, idempotency_key="k") is Submitted.KNOWN
    replayed = ledger.submit(a_job(idempotency_key="k"))
    assert (replayed.outcome, replayed.job_id) == (Submitted.REPLAYED, first)
    assert ledger.submit(a_job(idempotency_key="k", digest="other")).outcome is Submitted.MISMATCH
    assert ledger.submit(a_job(idempotency_key="k", tenant="bob")).outcome is Submitted.ACCEPTED
