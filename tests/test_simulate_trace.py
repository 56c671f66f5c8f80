"""Load traces: what is read from them, and what is said of bad ones."""

from pathlib import Path

import pytest

from app.job import Lane
from ops.simulate import BadTrace, World, of_arrivals, of_trace, parse, read
from ops.simulate.load import Moment
from ops.simulate.trace import Event
from tests.simulated import EVEN, TRACES, a_topology


def seconds(text: str, world: World = EVEN) -> list[Moment]:
    """Return every second of the trace that the text is."""
    return list(of_trace(parse(text), world))


def test_a_row_says_how_many_jobs_come_in_each_of_its_seconds() -> None:
    assert [len(each.arrivals) for each in seconds("second,for_s,jobs\n0,3,2\n3,1,5\n")] == [2, 2, 2, 5]


def test_parts_of_a_job_add_up_over_the_seconds() -> None:
    counts = [len(each.arrivals) for each in seconds("second,for_s,jobs\n0,100,0.1\n")]

    assert sum(counts) == 10
    assert max(counts) == 1


def test_a_second_that_no_row_covers_has_no_arrivals() -> None:
    assert [len(each.arrivals) for each in seconds("second,jobs\n1,2\n4,3\n")] == [0, 2, 0, 0, 3]


def test_jobs_come_in_order_within_their_second() -> None:
    moments = seconds("second,jobs\n0,50\n1,50\n")

    times = [arrival.t_s for each in moments for arrival in each.arrivals]
    assert times == sorted(times)
    assert all(0 <= t_s < 1 for t_s in times[:50])
    assert all(1 <= t_s < 2 for t_s in times[50:])


def test_an_empty_cell_says_what_the_row_before_said_but_for_jobs_and_for_s() -> None:
    trace = parse("second,for_s,jobs,users,service_s\n0,5,2,100,3\n5,,,,\n")

    assert (trace.rows[1].users, trace.rows[1].service_s, trace.rows[1].jobs, trace.rows[1].for_s) == (100, 3.0, 0.0, 1)


def test_comments_and_empty_lines_are_passed_over() -> None:
    assert parse("# a\n\nsecond,jobs\n# b\n0,1\n").duration_s == 1


def test_lanes_have_the_share_that_the_row_says() -> None:
    lanes = [arrival.lane for arrival in seconds("second,jobs,interactive,batch\n0,1000,0.5,0.2\n")[0].arrivals]

    assert [abs(lanes.count(lane) - wanted) < 60 for lane, wanted in
            ((Lane.INTERACTIVE, 500), (Lane.STANDARD, 300), (Lane.BATCH, 200))] == [True] * 3


def test_run_times_have_the_mean_and_the_spread_of_the_world() -> None:
    arrivals = seconds("second,jobs\n0,20000\n", World(service_s=2.0, spread=0.5))[0].arrivals

    mean = sum(each.service_s for each in arrivals) / 20_000
    deviation = (sum((each.service_s - mean) ** 2 for each in arrivals) / 20_000) ** 0.5
    assert mean == pytest.approx(2.0, rel=0.03)
    assert deviation == pytest.approx(1.0, rel=0.1)


def test_the_same_seed_draws_the_same_jobs_and_another_one_others() -> None:
    text = "second,for_s,jobs\n0,10,7\n"

    assert seconds(text, World(seed=5)) == seconds(text, World(seed=5)) != seconds(text, World(seed=6))


def test_events_stand_in_their_second_only() -> None:
    moments = seconds("second,for_s,jobs,event\n0,2,1,fail:server-1; cpu:server-2=95\n2,1,1,cpu:server-2=off;mns-down\n")

    assert [each.events for each in moments] == [
        (Event(what="fail", server="server-1"), Event(what="cpu", server="server-2", value=95.0)), (),
        (Event(what="cpu", server="server-2"), Event(what="mns-down"))]


@pytest.mark.parametrize(("text", "says"), [
    ("", "it is empty"),
    ("second,jobs\n", "there is no row under the header"),
    ("second,jobz\n0,1\n", "line 1: there is no column 'jobz'"),
    ("jobs\n1\n", "line 1: the header must have the column second"),
    ("second,second\n1,1\n", "line 1: the header must have the column second, and each column once"),
    ("second,jobs\n0,1\n1\n", "line 3: 1 cells under 2 columns"),
    ("second,jobs\n0,many\n", "line 2: jobs must be a number from 0 to 1e+06; got 'many'"),
    ("second,jobs\n0,-1\n", "line 2: jobs must be a number from 0"),
    ("second,jobs\n0,nan\n", "line 2: jobs must be a number from 0"),
    ("second,jobs\n0.5,1\n", "line 2: second must be a whole number; got '0.5'"),
    ("second,jobs\n,1\n", "line 2: second is missing"),
    ("# c\nsecond,for_s,jobs\n0,10,1\n5,1,1\n", "line 4: second 5 is before the end of the row above, 10"),
    ("second,jobs,interactive,batch\n0,1,0.6,0.6\n", "line 2: interactive and batch together must be at most 1"),
    ("second,event\n0,explode:server-1\n", "line 2: the event 'explode:server-1' is not known"),
    ("second,event\n0,fail\n", "line 2: the event 'fail' is not known"),
    ("second,event\n0,mns-down:server-1\n", "line 2: the event 'mns-down:server-1' is not known"),
    ("second,event\n0,cpu:server-1\n", "line 2: the event 'cpu:server-1' is not known"),
    ("second,event\n0,cpu:server-1=120\n", "line 2: cpu:server-1=120 must be a number from 0 to 100"),
])
def test_a_bad_trace_is_told_with_its_line(text: str, says: str) -> None:
    with pytest.raises(BadTrace) as caught:
        parse(text)

    assert says in str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(BadTrace) as caught:
        parse("second,jobs\n0,a\n1,b\n")

    assert "line 2" in str(caught.value)
    assert "line 3" in str(caught.value)


def test_a_trace_that_names_a_server_which_is_not_there_is_refused() -> None:
    with pytest.raises(BadTrace, match="there is no server 'server-9'; there are: server-1, server-2"):
        parse("second,event\n0,fail:server-9\n").check({server.name for server in a_topology().servers})


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="No such file"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["daily-wave.csv", "flash-crowd.csv", "server-failure.csv"])
def test_the_traces_that_come_along_can_be_read(name: str) -> None:
    trace = read(TRACES / name)

    trace.check({"server-1", "server-2"})
    assert trace.duration_s >= 1800


def test_given_jobs_are_put_into_their_seconds_in_whatever_order_they_come() -> None:
    moments = list(of_arrivals([(2.5, 1.0, 10), (0.2, 1.0, 10), (2.1, 1.0, 10)]))

    assert [[arrival.t_s for arrival in each.arrivals] for each in moments] == [[0.2], [], [2.1, 2.5]]
