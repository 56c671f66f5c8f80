"""The modelled home and cloud, without the policy: what runs where and when, what is lost and comes back, what it costs."""

from dataclasses import replace

import pytest

from app.job import Lane
from app.routing_records import Decision, Remembered, Shed
from app.routing_rules import Rules
from app.settings import Settings
from app.signals import Signals
from ops.simulate import Arrival, Run, World, of_arrivals
from ops.simulate.jobs import Job, Line
from ops.simulate.simulation import Policy, Simulation
from tests.simulated import CLOUD_SLOTS, EVEN, MOST, SLOTS, a_topology, run, send_all, stay_home

HOME_SLOTS = 2 * SLOTS
PRICED = {"cloud_price_per_1000_tokens": 1.0, "cloud_money_per_hour": 1e6, "cloud_jobs_per_minute": 10_000}


def deciding(*decisions: Decision) -> Policy:
    """Return a policy that decides these, one a second, and then goes on with the last."""
    left = list(decisions)

    def policy(_signals: Signals, _rules: Rules, before: Remembered, _now_s: float) -> tuple[Remembered, Decision]:
        return before, left.pop(0) if len(left) > 1 else left[0]
    return policy


def at_once(count: int, policy: Policy, *, world: World = EVEN, run_s: float = 1.0) -> Run:
    """Run so many jobs that come at the same time."""
    jobs = [Arrival(0.0, run_s, 1000.0)] * count
    return Simulation(a_topology(**PRICED), a_topology(**PRICED).rules, world, policy).run(of_arrivals(jobs))


def a_job(lane: Lane) -> Job:
    return Job(accepted_s=0.0, run_s=1.0, tokens=1.0, worst_tokens=1.0, lane=lane, gateway=0)


def test_jobs_run_as_many_at_a_time_as_there_are_slots() -> None:
    done = at_once(16, stay_home)

    assert max(each.running for each in done.seconds) == HOME_SLOTS
    assert done.succeeded == 16


def test_a_job_waits_for_the_ends_before_it() -> None:
    done = at_once(3 * HOME_SLOTS, stay_home)

    assert list(done.waits_s) == [0.0] * HOME_SLOTS + [1.0] * HOME_SLOTS + [2.0] * HOME_SLOTS
    assert done.responses_s[-1] == 3.0


def test_lanes_share_the_line_ten_to_one() -> None:
    line = Line()
    for _ in range(100):
        for lane in Lane:
            line.join(a_job(lane))

    first = [line.take_first().lane for _ in range(111)]
    assert [first.count(lane) for lane in Lane] == [100, 10, 1]


def test_the_last_in_line_leaves_first_and_comes_back_to_its_place() -> None:
    line = Line()
    jobs = [a_job(Lane.STANDARD) for _ in range(5)]
    for job in jobs:
        line.join(job)

    left = [line.take_last() for _ in range(3)]
    assert left == jobs[:1:-1]
    for job in left:
        line.join_again(job, paid_back=True)
    assert [line.take_first() for _ in range(5)] == jobs


def test_a_held_server_takes_nothing_new_and_the_other_does_its_work() -> None:
    done = run("second,for_s,jobs\n0,20,3\n", policy=deciding(Decision(hold={"server-1": ("model",)})))

    assert done.seconds[10].cpu[0] == EVEN.cpu_idle_percent < done.seconds[10].cpu[1]
    assert done.succeeded == 60


def test_a_hold_of_another_service_does_not_matter_to_the_models_jobs() -> None:
    done = run("second,for_s,jobs\n0,20,6\n", policy=deciding(Decision(hold={"server-1": ("chat",)})))

    assert min(done.seconds[10].cpu) > EVEN.cpu_idle_percent


def test_grown_pools_have_their_largest_size_and_shrink_without_losing_a_job() -> None:
    done = run("second,for_s,jobs\n0,20,40\n", policy=deciding(*[Decision(grow=True)] * 10, Decision()))

    assert max(each.running for each in done.seconds) == 2 * MOST
    assert done.seconds[-1].slots == HOME_SLOTS
    assert done.succeeded == 800


def test_crowded_slots_are_slower_where_the_world_says_so() -> None:
    quick, slow = (run("second,jobs\n0,0\n1,16\n", policy=deciding(Decision(grow=True)),
                       world=replace(EVEN, crowding=crowding)) for crowding in (0.0, 1.0))

    assert quick.responses_s[-1] == pytest.approx(1.0)
    assert slow.responses_s[-1] == pytest.approx(2.0)


def test_jobs_of_a_failed_server_run_again_when_their_leases_are_over() -> None:
    world = replace(EVEN, service_s=30.0)
    done = run("second,jobs,event\n0,8,\n5,0,fail:server-1\n", policy=stay_home, world=world)

    assert done.seconds[6].elsewhere == SLOTS
    assert done.seconds[6].running == SLOTS
    assert done.succeeded == 8
    assert len(done.waits_s) == 8
    assert 5 + 8 + 30 <= done.responses_s[-1] <= 5 + 10 + 30 + 30  # lost, then begun within a lease, or after the others


def test_a_job_that_loses_too_many_workers_fails() -> None:
    settings = Settings(max_lost=2, lease_s=4.0, beat_s=1.0)
    text = "second,jobs,event\n0,1,\n5,0,fail:server-1\n10,0,back:server-1\n15,0,fail:server-1\n20,0,back:server-1\n"

    lost = run(text, policy=stay_home, topology=a_topology(servers=1),
               world=replace(EVEN, service_s=60.0, settings=settings))
    assert (lost.failed, lost.succeeded, lost.live) == (1, 0, 0)


def test_failed_attempts_are_tried_again_and_fail_the_job_in_the_end() -> None:
    done = run("second,for_s,jobs,event\n0,30,4,errors:server-1=100;errors:server-2=100\n", policy=stay_home)

    assert done.failed == done.accepted == 120
    assert done.responses_s == []


def test_while_no_server_is_up_nothing_is_accepted_and_nothing_decided() -> None:
    rounds = []

    def counting(signals: Signals, _rules: Rules, before: Remembered, _now_s: float) -> tuple[Remembered, Decision]:
        rounds.append(signals.at_ms)
        return before, Decision()

    text = "second,for_s,jobs,event\n0,1,0,fail:server-1;fail:server-2\n1,9,5,\n10,1,1,back:server-2\n"

    done = run(text, policy=counting)
    assert done.unreachable == 45
    assert done.accepted == 1
    assert len(rounds) == len(done.seconds) - 10


def test_nothing_is_decided_until_another_leads_when_the_leader_is_gone() -> None:
    rounds = []

    def counting(signals: Signals, _rules: Rules, before: Remembered, _now_s: float) -> tuple[Remembered, Decision]:
        rounds.append(signals.at_ms // 1000 % 3600)
        return before, Decision()

    run("second,for_s,event\n0,10,\n10,10,fail:server-1\n", policy=counting)
    assert rounds == [*range(1, 11), *range(13, 21)]


def test_a_failed_server_is_believed_for_a_moment_and_then_unknown() -> None:
    heard = []

    def hearing(signals: Signals, _rules: Rules, before: Remembered, _now_s: float) -> tuple[Remembered, Decision]:
        heard.append(signals.servers["server-2"] is not None)
        return before, Decision()

    run("second,for_s,event\n0,5,\n5,10,fail:server-2\n15,5,back:server-2\n", policy=hearing)
    assert heard == [True] * 8 + [False] * 7 + [True] * 5


def test_sent_jobs_run_in_the_cloud_as_many_at_a_time_as_it_has_slots() -> None:
    done = at_once(40, deciding(Decision(send=20), Decision()))

    assert done.in_cloud == 20
    assert done.posts == 20
    assert done.succeeded == 40
    assert max(each.begun_cloud for each in done.seconds) <= 2 * CLOUD_SLOTS


def test_a_job_costs_what_it_used_and_reserves_what_it_may_use() -> None:
    world = replace(EVEN, worst_tokens=3.0, service_s=5.0)
    done = run("second,jobs\n0,10\n", policy=deciding(Decision(send=2), Decision()), world=world,
               topology=a_topology(**PRICED))

    assert done.seconds[0].money == done.seconds[0].money_hour == 6.0
    assert done.money == 2.0


def test_recalled_jobs_come_home_in_their_order_and_cost_nothing() -> None:
    done = at_once(30, deciding(Decision(send=20), Decision(recall=100), Decision()), run_s=3.0)

    assert done.in_cloud == CLOUD_SLOTS
    assert done.money == float(CLOUD_SLOTS)
    assert done.succeeded == 30


def test_no_more_is_sent_than_the_caps_allow() -> None:
    topology = a_topology(cloud_jobs_per_minute=7, cloud_price_per_1000_tokens=1.0, cloud_money_per_hour=10.0)
    done = run("second,for_s,jobs\n0,200,20\n", policy=send_all, topology=topology)

    assert max(each.jobs_minute for each in done.seconds) == 7
    assert done.posts == 10
    assert done.money == 10.0


def test_what_cannot_be_posted_stays_home() -> None:
    seen = []

    def sending(signals: Signals, _rules: Rules, before: Remembered, _now_s: float) -> tuple[Remembered, Decision]:
        seen.append(signals.cloud)
        return before, Decision(send=5)

    done = run("second,jobs,event\n0,40,mns-down\n", policy=sending)
    assert done.posts == 0
    assert done.in_cloud == 0
    assert done.succeeded == 40
    assert seen[-1] is not None
    assert seen[-1].posts_failed > 0
    assert seen[-1].reachable is False


def test_what_runs_in_the_cloud_comes_home_when_it_has_been_silent_for_a_lease() -> None:
    world = replace(EVEN, service_s=20.0, settings=Settings(cloud_lease_s=30.0, cloud_beat_s=5.0, mns_visibility_s=20.0))
    done = run("second,jobs,event\n0,12,\n5,0,mns-down\n", policy=deciding(Decision(send=4), Decision()), world=world)

    assert done.seconds[10].cloud == 4
    assert done.seconds[40].cloud == 0
    assert done.in_cloud == 0
    assert done.succeeded == 12
    assert done.responses_s[-1] == pytest.approx(5 + 30 + 20, abs=1)


def test_what_ended_while_mns_was_away_counts_when_it_is_back() -> None:
    done = run("second,jobs,event\n0,12,\n2,0,mns-down\n30,0,mns-up\n", world=replace(EVEN, service_s=5.0),
               policy=deciding(Decision(send=4), Decision()))

    assert done.in_cloud == 4
    assert done.succeeded == 12
    assert done.responses_s[-1] == pytest.approx(30, abs=1)


def test_jobs_that_nobody_begins_in_time_come_home() -> None:
    world = replace(EVEN, settings=Settings(cloud_wait_s=20.0))
    done = run("second,jobs,event\n0,12,cloud-down\n", policy=deciding(Decision(send=4), Decision()), world=world)

    assert done.seconds[15].sent == 4
    assert done.seconds[22].sent == 0
    assert done.in_cloud == 0
    assert done.succeeded == 12


def test_jobs_of_dead_cloud_workers_come_home_after_a_lease() -> None:
    done = run("second,jobs,event\n0,12,\n3,0,cloud-down\n10,0,cloud-up\n", world=replace(EVEN, service_s=8.0),
               policy=deciding(Decision(send=4), Decision()))

    assert done.in_cloud == 0
    assert done.succeeded == 12
    assert done.responses_s[-1] == pytest.approx(3 + 60 + 8, abs=1)


def test_a_cloud_worker_that_is_asked_for_takes_its_time_to_start() -> None:
    done = run("second,for_s,jobs\n0,100,1\n", world=replace(EVEN, cloud_worker_start_s=30.0),
               policy=deciding(*[Decision(cloud_workers=3)] * 80, Decision(cloud_workers=1)))

    workers = [each.cloud_workers for each in done.seconds]
    assert workers[29] == 1
    assert workers[32] == 3
    assert workers[79] == 3
    assert workers[82] == 1


def test_a_lane_that_is_shed_is_refused_and_the_others_are_not() -> None:
    done = run("second,for_s,jobs,batch\n0,20,10,0.5\n", policy=deciding(Decision(shed=Shed(lanes=("batch",)))))

    assert done.shed["batch"] > 50
    assert done.shed["standard"] == done.shed["interactive"] == 0
    assert done.accepted + sum(done.shed.values()) == 200


def test_without_a_cloud_nothing_is_sent() -> None:
    done = run("second,jobs\n0,40\n", policy=send_all, topology=a_topology(cloud=False))

    assert done.posts == 0
    assert done.succeeded == 40


def test_the_same_trace_and_seed_give_the_same_run() -> None:
    text = "second,for_s,jobs,batch,event\n0,40,12,0.3,errors:server-2=20\n40,20,3,,fail:server-1\n"
    first, again, other = (run(text, policy=send_all, world=World(seed=seed)) for seed in (3, 3, 4))

    assert list(first.seconds) == list(again.seconds) != list(other.seconds)
