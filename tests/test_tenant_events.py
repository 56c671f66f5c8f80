"""A tenant's events are told as they happen, from any event on, on any gateway, and at the cost of one reader a process."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice

import pytest
import redis
from flask.testing import FlaskClient

from app import tenant_events, tenant_following, topology
from app.accounts import Accounts, Role, Scope
from app.api import create_app
from app.errors import StoreUnavailable
from app.ledger.scripts import SOURCES
from app.settings import Settings
from app.tenant_events import _MOST_KEPT, StreamId, TenantEvents
from app.tenant_following import KEPT, KEPT_MS, TenantEvent, TenantFollowing
from ops.waiting import wait_until
from tests.reader import Told, parse

SOON_S = 10.0
Tell = Callable[..., str]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading thread looks often whether it is wanted, so that tests need not wait for its end."""
    monkeypatch.setattr(tenant_events, "_BLOCK_MS", 30)


@pytest.fixture
def tell(client: redis.Redis) -> Tell:
    """Writes an event as the ledger does, and returns its id."""
    def write(event: str = "queued", *, tenant: str = "ann", entry: str = "*", job: str = "j") -> str:
        return str(client.xadd(f"events:{tenant}", {"id": job, "event": event, "service": "model", "attempt": 1},
                               id=entry).decode())

    return write


@pytest.fixture
def hub(settings: Settings) -> Iterator[TenantEvents]:
    yield TenantEvents(settings)
    wait_until(lambda: not readers(), timeout_s=SOON_S, what="the reading to end")


class Stopped:
    """Says when a following is to stop."""

    def __init__(self) -> None:
        self.now = False

    def __call__(self) -> bool:
        return self.now


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tandem-tenant-events"]


def following(client: redis.Redis, after: str | None = None, tenant: str = "ann") -> TenantFollowing:
    one = TenantFollowing(tenant, client=client, mark=StreamId.parse(after) if after else None)
    one.begin()
    return one


def taken(one: TenantFollowing, hub: TenantEvents, count: int) -> list[TenantEvent]:
    """Take so many events."""
    events = one.events(hub, lambda: False)
    found: list[TenantEvent] = []
    while len(found) < count:
        found += next(events)
    events.close()  # type: ignore[attr-defined]  # it is a generator
    return found


# -- ids


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "x-1", "1.5-1", "1-18446744073709551616", "$", "1-*",
                                  "\N{ARABIC-INDIC DIGIT ONE}-1"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no id of an event"):
        StreamId.parse(text)


def test_ids_are_in_the_order_of_the_stream_and_know_the_one_before() -> None:
    assert StreamId.parse("9-10") < StreamId.parse("10-9") < StreamId.parse("10-10")
    assert [str(StreamId(*parts).before()) for parts in ((5, 3), (5, 0), (0, 0))] == [
        "5-2", "4-18446744073709551615", "0-0"]


# -- as it happens


def test_whoever_names_no_event_is_told_what_happens_from_now_on(
        client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    tell("queued")
    one = following(client)
    ids = [tell("started"), tell("succeeded")]

    assert [(str(event.id), event.name) for event in taken(one, hub, 2)] == list(zip(ids, ("started", "succeeded"),
                                                                                      strict=True))


def test_the_first_event_of_a_tenant_is_told_to_whoever_was_there_before_it(
        client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    one = following(client)
    start = str(one.mark)
    first = tell("queued")

    assert [str(event.id) for event in taken(one, hub, 1)] == [first]
    assert [event.name for event in taken(following(client, start), hub, 1)] == ["queued"]


def test_an_event_says_which_job_and_when(client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    one = following(client)
    tell("started", entry=f"{client.time()[0] + 1}000-7", job="the-job")
    (event,) = taken(one, hub, 1)

    assert event.data == {"job": "the-job", "service": "model", "attempt": 1, "at": event.data["at"]}
    assert event.data["at"].endswith(".000Z")


def test_no_event_of_another_tenant_is_told(client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    ann, bob = following(client), following(client, tenant="bob")
    for number in range(3):
        tell(tenant="bob", job=f"b{number}")
        tell(tenant="ann", job=f"a{number}")

    assert [event.data["job"] for event in taken(ann, hub, 3)] == ["a0", "a1", "a2"]
    assert [event.data["job"] for event in taken(bob, hub, 3)] == ["b0", "b1", "b2"]


def test_readers_of_many_tenants_share_one_thread_and_one_connection_which_end_after_the_last(
        client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    def blocked() -> int:
        return sum(each["cmd"] == "xread" and "b" in each["flags"] for each in client.client_list())

    with ExitStack() as listeners:
        ears = [listeners.enter_context(hub.listener(f"t{number % 7}", StreamId(0, 0))) for number in range(50)]
        for number in range(7):
            tell(tenant=f"t{number}")
        wait_until(lambda: all(ear.something.is_set() for ear in ears), timeout_s=SOON_S, what="all to be told")
        assert len(readers()) == 1
        wait_until(lambda: blocked() == 1, timeout_s=SOON_S, what="the reader to wait")
        assert all(len(ear.take()) == 1 for ear in ears)
    wait_until(lambda: not readers(), timeout_s=SOON_S, what="the thread to end")


def test_a_reader_that_fell_behind_gets_all_the_same_each_event_once(
        client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    one = following(client)
    events = one.events(hub, lambda: False)
    first = tell(job="first")
    assert [str(event.id) for event in next(events)] == [first]
    count = _MOST_KEPT + 700
    with client.pipeline() as pipeline:
        for number in range(count):
            pipeline.xadd("events:ann", {"id": str(number), "event": "queued", "service": "model", "attempt": 0})
        pipeline.execute()
    (listener,) = hub._listeners["ann"]
    wait_until(lambda: listener.behind, timeout_s=SOON_S, what="the reader to fall behind")

    got: list[str] = []
    while len(got) < count:
        got += [event.data["job"] for event in next(events)]
    assert got == [str(number) for number in range(count)]
    events.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_quiet_reader_is_told_now_and_then_that_we_are_there(
        client: redis.Redis, hub: TenantEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_following, "QUIET_S", 0.05)
    events = following(client).events(hub, lambda: False)

    assert list(islice(events, 3)) == [[], [], []]
    events.close()  # type: ignore[attr-defined]  # it is a generator


def test_all_readers_end_when_the_process_is_to_stop(client: redis.Redis, settings: Settings) -> None:
    stopped = Stopped()
    hub = TenantEvents(settings, stopping=stopped)
    with ThreadPoolExecutor(5) as crowd:
        told = [crowd.submit(list, following(client).events(hub, stopped)) for _ in range(5)]
        wait_until(lambda: len(hub._listeners.get("ann", ())) == 5, timeout_s=SOON_S, what="all to listen")
        stopped.now = True
        assert [each.result(timeout=SOON_S) for each in told] == [[]] * 5


def test_events_come_again_after_a_broken_connection(client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    events = following(client).events(hub, lambda: False)
    tell(job="before")
    assert [event.data["job"] for event in next(events)] == ["before"]
    client.client_kill_filter(_type="normal", skipme=True)
    tell(job="after")
    assert [event.data["job"] for event in next(events)] == ["after"]
    events.close()  # type: ignore[attr-defined]  # it is a generator


# -- from an event on


def test_whoever_comes_back_gets_exactly_what_followed_wherever_he_was(
        client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    ids = [tell(job=str(number)) for number in range(6)]
    for had in range(5):
        rest = taken(following(client, ids[had]), hub, 5 - had)
        assert [str(event.id) for event in rest] == ids[had + 1:]
    assert [str(event.id) for event in taken(following(client, "0-0"), hub, 6)] == ids


def test_an_id_from_which_on_events_were_trimmed_is_told_as_a_gap_and_the_oldest_kept_follow(
        client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    now_ms = client.time()[0] * 1000
    had = f"{now_ms - 2 * KEPT_MS}-0"
    kept = [tell(entry=f"{now_ms - 1000}-0"), tell(entry=f"{now_ms}-0")]
    gap, *rest = taken(following(client, had), hub, 3)

    assert (gap.name, gap.data) == ("gap", {"after": had})
    assert [str(event.id) for event in rest] == kept
    assert gap.id < rest[0].id
    assert str(gap.id.before()) != had


def test_an_id_that_was_trimmed_because_there_were_too_many_is_a_gap_too(client: redis.Redis, hub: TenantEvents) -> None:
    now_ms = client.time()[0] * 1000
    client.eval("for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], ARGV[2] .. '-' .. i, 'id', i, 'event', 'queued', "
                "'service', 'model', 'attempt', 0) end", 1, "events:ann", KEPT + 1, now_ms)
    client.xtrim("events:ann", maxlen=KEPT, approximate=False)

    events = taken(following(client, f"{now_ms}-1"), hub, 2)
    assert [event.name for event in events[:2]] == ["gap", "queued"]
    assert events[1].data["job"] == "2"
    assert taken(following(client, f"{now_ms}-2"), hub, 1)[0].data["job"] == "3"


def test_an_id_that_is_yet_to_come_is_of_another_stream_and_told_as_a_gap(
        client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    kept = [tell(), tell()]
    gap, *rest = taken(following(client, f"{(client.time()[0] + 3600) * 1000}-0"), hub, 3)

    assert gap.name == "gap"
    assert [str(event.id) for event in rest] == kept


def test_an_id_from_before_the_first_event_of_all_is_no_gap(client: redis.Redis, hub: TenantEvents, tell: Tell) -> None:
    before = f"{client.time()[0] * 1000 - 5000}-0"
    first = tell()

    assert [(str(event.id), event.name) for event in taken(following(client, before), hub, 1)] == [(first, "queued")]


def test_what_is_kept_of_a_stream_is_what_the_ledger_keeps() -> None:
    kept = re.search(r"EVENTS_KEPT, EVENTS_KEPT_S = (\d+), (\d+)", SOURCES["submit"])
    assert kept
    assert (int(kept[1]), int(kept[2]) * 1000) == (KEPT, KEPT_MS)


def test_without_redis_nobody_begins(settings: Settings) -> None:
    with redis.Redis.from_url("redis://127.0.0.1:1") as away, pytest.raises(StoreUnavailable):
        following(away)


# -- over HTTP


@pytest.fixture
def ann(client: redis.Redis, settings: Settings) -> Iterator[tuple[FlaskClient, str]]:
    """A client of a gateway, and the tenant that it speaks for."""
    accounts = Accounts(client)
    account = accounts.add("ann", Role.USER, "hash")
    with create_app(settings, topology.load({})[1]).test_client() as caller:
        caller.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {accounts.add_key(account, 'key')[0]}"
        yield caller, account.id
    wait_until(lambda: not readers(), timeout_s=SOON_S, what="the reading to end")


def read_events(caller: FlaskClient, count: int, **headers: str) -> tuple[str, list[Told]]:
    """Read so many chunks; return the first, and the events of the others."""
    answer = caller.get("/v1/events", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    chunks = answer.iter_encoded()
    first = next(chunks).decode()
    events: list[Told] = []
    while len(events) < count:
        events += parse(next(chunks).decode())
    answer.close()
    return first, events


def test_events_are_sent_as_server_sent_events_with_the_ids_of_the_stream(
        ann: tuple[FlaskClient, str], tell: Tell) -> None:
    caller, tenant = ann
    had, next_id = tell(tenant=tenant, job="a"), tell("started", tenant=tenant, job="b")
    first, (event,) = read_events(caller, 1, **{"Last-Event-ID": had})

    assert first == f"retry: 1000\n\nid: {had}\n\n"
    assert (event.id, event.name) == (next_id, "started")
    assert event.data == {"job": "b", "service": "model", "attempt": 1, "at": event.data["at"]}


def test_a_reader_who_has_had_no_event_yet_knows_where_to_come_back_to(
        ann: tuple[FlaskClient, str], tell: Tell) -> None:
    caller, tenant = ann
    tell(tenant=tenant, job="long ago")
    first, _ = read_events(caller, 0)
    tell(tenant=tenant, job="while he was away")

    _, events = read_events(caller, 1, **{"Last-Event-ID": first.rpartition("id: ")[2].strip()})
    assert [event.data["job"] for event in events] == ["while he was away"]


def test_the_streams_headers_can_be_asked_for_alone(ann: tuple[FlaskClient, str]) -> None:
    answer = ann[0].head("/v1/events")
    assert (answer.status_code, answer.data, answer.headers["Cache-Control"]) == (200, b"", "no-store")


@pytest.mark.parametrize("after", ["x", "1", "1-2-3"])
def test_what_is_no_id_of_an_event_is_a_bad_request(ann: tuple[FlaskClient, str], after: str) -> None:
    for answer in (ann[0].get("/v1/events", headers={"Last-Event-ID": after}),
                   ann[0].get("/v1/events", query_string={"starting_after": after})):
        assert (answer.status_code, answer.json["code"]) == (400, "malformed-request")


def test_a_key_without_the_scope_reads_no_events(ann: tuple[FlaskClient, str], client: redis.Redis) -> None:
    accounts = Accounts(client)
    account = accounts.find("ann")
    assert account
    key, _ = accounts.add_key(account, "other", scopes={Scope.JOBS_READ})

    assert ann[0].get("/v1/events", headers={"Authorization": f"Bearer {key}"}).status_code == 403
