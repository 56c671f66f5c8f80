"""The page on scale: what is measured for it, and what is reckoned from that."""

from dataclasses import replace
from pathlib import Path

import pytest

from app import topology
from app.settings import Settings
from ops.simulate.scale import estimate, leader, overload, page, picture, redis_cost
from ops.simulate.scale.idle_stack import Idle
from ops.simulate.scale.leader import LeaderRound
from ops.simulate.scale.redis_cost import BATCH, Cost, Load
from tests.simulated import a_topology

NAMES = ["submit", "take", f"beat, {BATCH} leases", f"say, {BATCH} attempts", "read", "settle", "register",
         "gateway's report", "server's signals"]
IDLE = Idle(connections=20.0, commands_s=50.0, scripts_s=10.0, redis_percent=0.5)


def the_costs() -> list[Cost]:
    return [Cost(name=name, who="somebody", redis_us=100.0, call_ms=1.0) for name in NAMES]


def test_every_call_of_a_job_and_of_a_server_is_measured(settings: Settings) -> None:
    costs = redis_cost.measure(settings, jobs=2 * BATCH)

    assert [cost.name for cost in costs] == NAMES
    assert all(cost.call_ms > 0 for cost in costs)


def test_whole_jobs_are_counted_by_all_who_do_them(settings: Settings) -> None:
    load = redis_cost.load(settings, callers=4, seconds=0.5)

    assert load.callers == 4
    assert load.jobs_s > 0
    assert load.scripts_s > 2 * load.jobs_s


def test_a_round_of_the_leader_hears_every_server_and_worker(settings: Settings) -> None:
    found = leader.measure(settings, a_topology(), servers=3)

    assert (found.servers, found.workers) == (3, 15)
    assert found.gather_ms > found.decide_ms > 0


def test_caps_that_grow_with_the_servers_let_more_leave() -> None:
    small, grown = overload.runs(topology.load({}, embedded=False)[1], [8])

    assert (small.grown_caps, grown.grown_caps) == (False, True)
    assert small.run.posts < grown.run.posts
    assert small.run.accepted == grown.run.accepted
    assert small.round_ms <= small.longest_ms


def test_a_server_takes_of_redis_what_its_calls_cost() -> None:
    share = estimate.share(the_costs(), IDLE)

    assert share.jobs == pytest.approx(8 * 5 * 100 / 1e4)  # 8 jobs a second: submit, take, settle, two polls
    assert share.words == pytest.approx(33 * 100 / 1e4)
    assert share.own == pytest.approx(0.5 + 50 / 1e4)
    assert share.streamed == pytest.approx(share.polled + share.words)


def test_without_a_look_at_an_idle_stack_its_part_is_reckoned_from_the_calls() -> None:
    assert estimate.share(the_costs(), None).own == pytest.approx((2.5 + 1 + 1 + 0.5) * 100 / 1e4)


def test_a_primary_carries_as_many_servers_as_fit_below_its_bound() -> None:
    assert estimate.most_servers(1.0) == 70
    assert estimate.most_servers(36.0) == 1


def test_the_page_and_its_picture_have_the_figures(tmp_path: Path) -> None:
    run = overload.runs(a_topology(), [2])[0]
    figures = page.Figures(runs=[run, replace(run, servers=8, grown_caps=True)], costs=the_costs(), idle=IDLE,
                           loads=[Load(callers=16, jobs_s=1234.0, scripts_s=4936.0, redis_percent=55.0)],
                           rounds=[LeaderRound(servers=2, workers=10, gather_ms=3.0, decide_ms=0.1)])

    text = page.text(figures)
    picture.draw(figures, tmp_path / page.PICTURE)
    assert "| 16 | 1,234 | 4,936 | 55 |" in text
    assert "holds 20 connections" in text
    assert "some 500 servers" in text
    assert (tmp_path / page.PICTURE).read_bytes().startswith(b"\x89PNG")


def test_a_page_without_a_stack_says_so() -> None:
    figures = page.Figures(runs=[], costs=the_costs(), idle=None, rounds=[],
                           loads=[Load(callers=1, jobs_s=1.0, scripts_s=4.0, redis_percent=5.0)])

    assert "No stack was started for this page." in page.text(figures)
