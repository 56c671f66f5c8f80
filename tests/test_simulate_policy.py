"""The routing policy in the simulated world: what must hold whatever comes in and whatever fails."""

from collections import Counter, defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ops.simulate import Run, Trace, World, simulate
from ops.simulate.trace import Event, Row
from routing.policy.home import AIMED
from tests.simulated import EVEN, SERVERS, SLOTS, a_topology

CAP_JOBS, CAP_MONEY = 30, 40.0
TOPOLOGY = a_topology(cloud_jobs_per_minute=CAP_JOBS, cloud_money_per_hour=CAP_MONEY, cloud_price_per_1000_tokens=1.0,
                      target_wait_s=3.0, shed_wait_s=20.0, scale_step_s=20.0, scale_down_s=40.0)
QUIET_S = 900

events = st.one_of(
    st.builds(Event, what=st.sampled_from(["fail", "back"]), server=st.sampled_from(SERVERS)),
    st.builds(Event, what=st.just("cpu"), server=st.sampled_from(SERVERS), value=st.sampled_from([None, 75.0, 95.0])),
    st.builds(Event, what=st.just("errors"), server=st.sampled_from(SERVERS), value=st.sampled_from([None, 3.0, 30.0])),
    st.builds(Event, what=st.sampled_from(["mns-down", "mns-up", "cloud-down", "cloud-up"])))

parts = st.tuples(
    st.integers(1, 40), st.sampled_from([0.0, 0.5, 4.0, 9.0, 15.0, 40.0]), st.sampled_from([10, 1200, 2000]),
    st.lists(events, max_size=2))

worlds = st.builds(World, seed=st.integers(0, 9), service_s=st.just(1.0), spread=st.sampled_from([0.0, 0.8]),
                   worst_tokens=st.sampled_from([1.0, 3.0]), cloud_pace=st.sampled_from([0.5, 1.0, 2.0]),
                   cloud_worker_start_s=st.just(10.0))

#: Everything that a trace may have broken works again.
MENDED = (*(Event(what="back", server=server) for server in SERVERS),
          *(Event(what=what, server=server) for server in SERVERS for what in ("cpu", "errors")),
          Event(what="mns-up"), Event(what="cloud-up"))


def a_trace(drawn: list[tuple[int, float, int, list[Event]]], *, quiet_s: int = 0) -> Trace:
    """Return a trace of these parts; with `quiet_s` all is mended after them, and little comes for so long."""
    rows, second = [], 0
    for for_s, jobs, users, happen in drawn:
        rows.append(Row(second=second, for_s=for_s, jobs=jobs, users=users, batch=0.2, interactive=0.2,
                        events=tuple(happen)))
        second += for_s
    if quiet_s:
        rows.append(Row(second=second, for_s=quiet_s, jobs=0.5, users=10, events=MENDED))
    return Trace(name="drawn", rows=tuple(rows))


traces = st.lists(parts, min_size=1, max_size=8)


def in_a_minute(times: list[float]) -> int:
    """Return how many of these times lie within the fullest minute."""
    return max((sum(1 for other in times if time <= other < time + 60) for time in times), default=0)


def times_of(run: Run, what: str) -> dict[str, list[float]]:
    """Return when changes of a kind were, by their scope."""
    found: dict[str, list[float]] = defaultdict(list)
    for at_s, change in run.changes:
        if change.what == what:
            found[change.scope].append(at_s)
    return found


@settings(max_examples=25)
@given(traces, worlds)
def test_no_job_is_lost_whatever_fails_and_every_one_ends_when_all_works_again(
        drawn: list[tuple[int, float, int, list[Event]]], world: World) -> None:
    run = simulate(a_trace(drawn, quiet_s=QUIET_S), TOPOLOGY, world=world)  # each second's books are checked by the run

    assert run.accepted == run.succeeded + run.failed
    assert run.live == 0


@settings(max_examples=25)
@given(traces, worlds)
def test_the_caps_hold_in_every_second(drawn: list[tuple[int, float, int, list[Event]]], world: World) -> None:
    run = simulate(a_trace(drawn), TOPOLOGY, world=world)

    sent = [each.sending for each in run.seconds]
    assert max(sum(sent[start:start + 60]) for start in range(len(sent))) <= CAP_JOBS
    assert max(each.money_hour for each in run.seconds) <= CAP_MONEY + 1e-6


@settings(max_examples=25)
@given(traces, worlds)
def test_nothing_leaves_while_a_server_that_takes_jobs_has_a_free_slot(
        drawn: list[tuple[int, float, int, list[Event]]], world: World) -> None:
    # posted at once, jobs leave at the very end of the second, which is what a second's record shows
    run = simulate(a_trace(drawn), TOPOLOGY, world=replace(world, cloud_post_s=0.0))

    assert [second for second, each in enumerate(run.seconds) if each.sending and each.free] == []


calm_users = st.just(100)
outages = st.lists(st.builds(Event, what=st.sampled_from(["mns-down", "mns-up", "cloud-down", "cloud-up"])), max_size=1)
loads = st.lists(st.tuples(st.integers(5, 40), st.sampled_from([1.0, 7.0, 9.0, 15.0, 40.0]), calm_users, outages),
                 min_size=2, max_size=8)


@settings(max_examples=25)
@given(loads)
def test_what_home_can_do_well_within_the_target_wait_stays_there(drawn: list[tuple[int, float, int, list[Event]]]) -> None:
    run = simulate(a_trace(drawn), TOPOLOGY, world=replace(EVEN, cloud_post_s=0.0))

    in_time = int(len(SERVERS) * SLOTS / EVEN.service_s * TOPOLOGY.rules.target_wait_s * AIMED)
    assert [second for second, each in enumerate(run.seconds) if each.sending and each.waiting < in_time - 1] == []


@settings(max_examples=25)
@given(traces, worlds)
def test_no_level_and_no_server_changes_more_than_a_few_times_in_a_minute(
        drawn: list[tuple[int, float, int, list[Event]]], world: World) -> None:
    run = simulate(a_trace(drawn), TOPOLOGY, world=world)
    failures = Counter(event.server for _, _, _, happen in drawn for event in happen if event.what in ("fail", "back"))

    assert {scope: count for scope, times in times_of(run, "level").items() if (count := in_a_minute(times)) > 6} == {}
    assert {scope: count for scope, times in times_of(run, "server").items()
            if (count := in_a_minute(times)) > 4 + failures[scope]} == {}


@settings(max_examples=25)
@given(traces, worlds)
def test_the_cloud_is_given_up_when_home_is_calm_again(
        drawn: list[tuple[int, float, int, list[Event]]], world: World) -> None:
    run = simulate(a_trace(drawn, quiet_s=QUIET_S), TOPOLOGY, world=world)

    end = run.seconds[-1]
    assert (end.sent, end.cloud, end.share) == (0, 0, 0.0)
    assert end.open == len(SERVERS)
    assert all(each.begun_cloud == 0 for each in run.seconds[-60:])


@settings(max_examples=25)
@given(traces, worlds)
def test_nobody_is_refused_while_nothing_waits(drawn: list[tuple[int, float, int, list[Event]]], world: World) -> None:
    run = simulate(a_trace(drawn), TOPOLOGY, world=world)

    patience_s = 4 * round(TOPOLOGY.rules.calm_s + TOPOLOGY.rules.step_s)  # for three lanes, one after the other
    assert [second for second, each in enumerate(run.seconds) if each.shed
            and not any(before.waiting for before in run.seconds[max(second - patience_s, 0):second])] == []


def test_a_sawtooth_around_the_alert_level_does_not_make_a_server_flap() -> None:
    saw = [Row(second=2 * step, for_s=2, jobs=2.0, events=(
        Event(what="cpu", server="server-1", value=95.0 if step % 2 else 60.0),)) for step in range(150)]

    run = simulate(Trace(name="saw", rows=tuple(saw)), TOPOLOGY, world=EVEN)
    assert times_of(run, "server") == {}


def test_a_saturated_server_is_relieved_by_the_other_and_takes_jobs_again_after_its_time() -> None:
    rows = (Row(second=0, for_s=10, jobs=3.0), Row(second=10, for_s=60, jobs=3.0, events=(
        Event(what="cpu", server="server-1", value=95.0),)), Row(second=70, for_s=60, jobs=3.0, events=(
            Event(what="cpu", server="server-1"),)))

    run = simulate(Trace(name="hot", rows=rows), TOPOLOGY, world=EVEN)
    hold_s = TOPOLOGY.rules.thresholds["cpu_percent"].hold_s
    assert [each.open for each in run.seconds[20:70]] == [1] * 50
    assert [(change.after, round(at_s)) for at_s, change in run.changes if change.what == "server"] == [
        ("saturated", 16), ("open", 71 + round(hold_s))]
    assert run.waits_s[-1] < 1.0


def test_an_overload_goes_to_the_cloud_and_waiting_comes_back_under_the_target() -> None:
    rows = (Row(second=0, for_s=30, jobs=3.0), Row(second=30, for_s=240, jobs=11.0), Row(second=270, for_s=120, jobs=1.0))
    topology = a_topology(target_wait_s=4.0, cloud_jobs_per_minute=10_000, cloud_money_per_hour=1e6)

    run = simulate(Trace(name="over", rows=rows), topology, world=replace(EVEN, cloud_workers=2))
    assert max(each.oldest_s for each in run.seconds[90:270]) <= 4.0 + 3.0
    assert 3.0 * 0.9 < sum(each.begun_cloud for each in run.seconds[90:270]) / 180 < 3.0 * 1.1  # what home cannot do
    assert run.seconds[-1].cloud == 0


def test_mns_down_in_an_overflow_keeps_jobs_home_until_probes_have_shown_that_it_works() -> None:
    rows = (Row(second=0, for_s=60, jobs=12.0), Row(second=60, for_s=90, jobs=10.0, events=(Event(what="mns-down"),)),
            Row(second=150, for_s=150, jobs=10.0, events=(Event(what="mns-up"),)))
    topology = a_topology(target_wait_s=3.0, cloud_jobs_per_minute=10_000, cloud_money_per_hour=1e6, shed_wait_s=10_000.0)

    run = simulate(Trace(name="away", rows=rows), topology, world=EVEN)
    breaker = [(change.before, change.after) for _, change in run.changes if change.what == "breaker"]
    assert breaker[0] == ("closed", "open")
    assert breaker[-1] == ("half-open", "closed")
    assert sum(each.sending for each in run.seconds[75:150]) == 0 < sum(each.sending for each in run.seconds[220:300])
    assert run.live == 0


def test_home_has_all_its_slots_when_nothing_is_wrong() -> None:
    run = simulate(Trace(name="calm", rows=(Row(second=0, for_s=120, jobs=2.0),)), TOPOLOGY, world=EVEN)

    assert {each.slots for each in run.seconds} == {2 * SLOTS}
    assert run.in_cloud == 0
    assert run.changes == []
