"""Where some queue workers do not reach MNS, one that does leads, and jobs go to the cloud all the same."""

from dataclasses import replace

import pytest
import redis

from app import cloud_state
from app.cloud_registry import CloudLink, CloudRegistry
from app.settings import Settings
from tests.routing_task import task

ONE, OTHER = "queue@server-1", "queue@server-2"


@pytest.fixture
def abroad(settings: Settings) -> Settings:
    """Settings with a cloud, that nobody asks."""
    return replace(settings, mns_url="mns://127.0.0.1:1")


@pytest.fixture
def registry(client: redis.Redis) -> CloudRegistry:
    return CloudRegistry(client)


def stand(registry: CloudRegistry, **said: bool) -> None:
    for name, reaches in said.items():
        registry.say(f"queue@{name.replace('_', '-')} hearing", "" if reaches else "OSError: no route", for_s=1.0)


@pytest.mark.parametrize(("said", "reached"), [
    ({}, None),
    ({"queue@a hearing": "", "queue@a stops": ""}, True),
    ({"queue@a hearing": "", "queue@a stops": "no route"}, False),
    ({"queue@a hearing": "no route", "queue@a stops": "", "queue@b hearing": "", "queue@b stops": ""}, True),
    ({"queue@a hearing": "no route", "queue@b hearing": "no route"}, False),
], ids=["nobody says", "all", "a thread does not", "one worker does", "none does"])
def test_the_cloud_is_reached_where_all_threads_of_one_worker_reach_it(said: dict[str, str], reached: bool | None) -> None:
    links = [CloudLink(who=who, why=why, for_s=1.0, said_ms=1) for who, why in said.items()]
    cloud = cloud_state.Cloud(url="", prefix="", links=links, sent=0, running=0, workers=[])

    assert cloud.reachable is reached


def test_a_leader_that_does_not_reach_it_leaves_it_to_one_that_does(abroad: Settings, registry: CloudRegistry) -> None:
    with task(abroad, who=ONE) as one, task(abroad, who=OTHER) as other:
        assert one.round()
        stand(registry, server_1=False, server_2=True)
        for _ in range(40):
            assert one.round() is None
            led = other.round()
            assert led
            assert (led.leader, led.epoch) == (OTHER, 2)
        assert led.signals.cloud
        assert led.signals.cloud.reachable is True


@pytest.mark.parametrize("said", [{}, {"server_1": True, "server_2": True}, {"server_1": False}, {"server_2": True},
                                  {"server_1": False, "server_2": False}],
                         ids=["nothing", "both", "alone", "has not said", "neither"])
def test_it_keeps_the_lead_where_no_other_is_better(
        abroad: Settings, registry: CloudRegistry, said: dict[str, bool]) -> None:
    with task(abroad, who=ONE) as one, task(abroad, who=OTHER) as other:
        one.round()
        stand(registry, **said)
        assert one.round()
        assert other.round() is None


def test_where_the_other_does_not_take_it_it_leads_again_and_offers_it_now_and_then(
        abroad: Settings, registry: CloudRegistry) -> None:
    with task(abroad, who=ONE) as one:
        one.round()
        stand(registry, server_1=False, server_2=True)
        led = [bool(one.round()) for _ in range(62)]

    assert led == [False] * 2 + [True] * 28 + [False] * 2 + [True] * 28 + [False] * 2


def test_without_a_cloud_nobody_looks(settings: Settings, registry: CloudRegistry) -> None:
    with task(settings, who=ONE) as one:
        one.round()
        stand(registry, server_1=False, server_2=True)
        assert one.round()
