"""Reports are asked for once, kept for a while, bounded, and read as far as they have come."""

import msgspec
import pytest
import redis

from app import investigations
from app.errors import NotFound
from app.investigation_records import ProcessStacks, ServerPart, SystemPart, ThreadStack, id_of
from app.investigation_text import text
from app.investigations import Investigations
from app.job import is_job_id, new_job_id
from tests.alerts import an_alert

NONE = (0.0, 0.0, 0.0)


@pytest.fixture
def reports(client: redis.Redis) -> Investigations:
    return Investigations(client)


def a_part(server: str = "server-1", *, threads: int = 1, frames: int = 3) -> ServerPart:
    """What a server contributes, with so many threads."""
    stacks = tuple(ThreadStack(names=(f"thread-{n}",), count=1, active=n == 0, holds_gil=False,
                               frames=tuple(f"function_{n}_{m} (some_file.py:{m})" for m in range(frames)))
                   for n in range(threads))
    return ServerPart(server=server, at_ms=1, took_s=0.1, cpus=2, load=NONE, stacks=(
        ProcessStacks(worker=f"model@{server}", pid=7, busy=1, threads=stacks),))


def a_whole(*servers: str) -> SystemPart:
    return SystemPart(who="queue@server-1", at_ms=1, took_s=0.1, servers=servers)


def test_an_alert_that_asks_twice_gets_one_report_whose_id_follows_from_its_own(reports: Investigations) -> None:
    alert = an_alert("response_s")

    assert reports.ask(alert) == reports.ask(alert) == id_of(alert.id)
    assert id_of(alert.id) == f"response_s-server-1-{round(alert.opened_s * 1000)}"
    (listed,) = reports.list()
    assert (listed.asked.alert, listed.asked.who, listed.parts) == (alert, "routing", ())


def test_an_operator_can_ask_by_hand(reports: Investigations) -> None:
    one, other = reports.ask_by_hand("ann", "it feels slow"), reports.ask_by_hand("ann", "still")

    assert one != other
    report = reports.read(one)
    assert (report.asked.who, report.asked.why, report.asked.alert) == ("ann", "it feels slow", None)


def test_each_server_is_wanted_until_it_has_contributed_once(reports: Investigations) -> None:
    report_id = reports.ask(an_alert())

    assert reports.pending("server-1") == reports.pending("server-2") == reports.pending_system() == [report_id]
    assert reports.contribute(report_id, "server-1", a_part())
    assert not reports.contribute(report_id, "server-1", a_part(threads=2))
    assert reports.contribute_system(report_id, a_whole("server-1", "server-2"))
    assert not reports.contribute_system(report_id, a_whole())

    assert (reports.pending("server-1"), reports.pending("server-2"), reports.pending_system()) == ([], [report_id], [])
    report = reports.read(report_id)
    assert (report.servers, report.missing) == ({"server-1": a_part()}, ("server-2",))
    assert reports.list()[0].parts == ("server-1", "system")


def test_nobody_is_asked_for_a_part_long_after(reports: Investigations, monkeypatch: pytest.MonkeyPatch) -> None:
    report_id = reports.ask(an_alert())
    now_ms = reports.now_ms()
    monkeypatch.setattr(reports, "now_ms", lambda: now_ms + investigations.WANTED_MS - 1000)
    assert reports.pending("server-1") == [report_id]
    monkeypatch.setattr(reports, "now_ms", lambda: now_ms + investigations.WANTED_MS + 1000)
    assert reports.pending("server-1") == reports.pending_system() == []


def test_a_part_for_a_report_that_nobody_asked_for_is_refused(reports: Investigations, client: redis.Redis) -> None:
    assert not reports.contribute("nothing", "server-1", a_part())
    assert client.keys("*") == []


@pytest.mark.parametrize("name", ["nothing", "", "\udcff", "a\0b", "../x", 100_000 * "x"], ids=range(6))
def test_a_report_that_is_not_there_says_where_to_find_those_that_are(reports: Investigations, name: str) -> None:
    with pytest.raises(NotFound, match="route investigation"):
        reports.read(name)


def test_reports_are_kept_for_a_week(reports: Investigations, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    report_id = reports.ask(an_alert())
    reports.contribute(report_id, "server-1", a_part())
    assert 0 < client.pttl(f"investigation:{report_id}") <= investigations.KEPT_MS

    now_ms = reports.now_ms()
    monkeypatch.setattr(reports, "now_ms", lambda: now_ms + investigations.KEPT_MS + 1000)
    after = reports.ask_by_hand("ann", "later")
    assert [each.asked.id for each in reports.list()] == [after]


def test_there_are_only_so_many_reports(reports: Investigations, client: redis.Redis,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(investigations, "_MOST", 3)
    asked = [reports.ask(an_alert(scope=f"server-{n}")) for n in range(6)]

    assert {each.asked.id for each in reports.list()} == set(asked[-3:])
    assert len(client.keys("investigation:*")) == 3


def test_the_oldest_make_room_where_reports_are_too_many_bytes(reports: Investigations, client: redis.Redis,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(msgspec.json.encode(a_part(threads=50)))
    monkeypatch.setattr(investigations, "_MOST_BYTES", 3 * size)
    asked = []
    for n in range(5):
        asked.append(reports.ask(an_alert(opened_ms=n)))
        reports.contribute(asked[-1], "server-1", a_part(threads=50))

    assert {each.asked.id for each in reports.list()} == set(asked[-2:])
    assert sum(client.memory_usage(key) for key in client.keys("investigation:*")) < 4 * size


def test_a_part_that_is_too_long_loses_the_threads_that_tell_least(reports: Investigations) -> None:
    report_id = reports.ask(an_alert())
    reports.contribute(report_id, "server-1", a_part(threads=400, frames=30))

    (process,) = reports.read(report_id).servers["server-1"].stacks
    assert 0 < len(process.threads) < 400
    assert process.threads[0].active
    assert "left out" in process.note


def test_what_cannot_be_read_is_passed_by(reports: Investigations, client: redis.Redis) -> None:
    report_id = reports.ask(an_alert())
    client.hset(f"investigation:{report_id}", mapping={"system": "{", "server:server-1": '{"x": 1}', "server:server-2":
                                                       msgspec.json.encode(a_part("server-2"))})

    report = reports.read(report_id)
    assert (report.system, list(report.servers)) == (None, ["server-2"])
    assert "No queue worker has looked at the whole yet" in text(report)


def test_ids_can_stand_in_a_url_and_are_no_jobs() -> None:
    assert id_of("a b/c@d?#1") == "a-b-c-d-1"
    assert not is_job_id(id_of(f"x@{new_job_id()}#1"))
