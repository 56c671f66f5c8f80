"""The response cache on a real Redis Cluster: what a lost or hanging primary costs, and that its answers come back."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis
from redis.crc import key_slot

from app.response_cache import Entry, ResponseCache
from app.settings import Settings
from ops import embedded_redis
from ops.embedded_redis import start
from ops.sandbox import kill
from ops.waiting import wait_until
from tests import cluster as clusters
from tests.cluster import Cluster

ANSWER = Entry(model="scripted", result=b'{"text":"hello"}', usage=b"{}")
MARKS = [f"{number:064x}" for number in range(300)]
TIMEOUT_S = 0.25  # the default
SLACK_S = 0.75  # for a busy machine


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for the tests that leave it whole."""
    with clusters.running(tmp_path_factory.mktemp("cluster")) as one:
        yield one


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A client of the main Redis."""
    server = start(tmp_path_factory.mktemp("main"), program=embedded_redis.bundled_program(), fsync="no")
    with redis.Redis.from_url(server.url) as one:
        yield one
    server.stop()


@pytest.fixture
def settings(cluster: Cluster) -> Settings:
    """Default settings with the cache on the cluster."""
    return Settings(cache_url=cluster.url)


@pytest.fixture
def cache(settings: Settings, client: redis.Redis) -> ResponseCache:
    """A cache on the cluster, whose answers of other tests are forgotten."""
    one = ResponseCache(settings, client)
    one.invalidate(None)
    return one


def key_of(cache: ResponseCache, mark: str) -> str:
    return cache._keys("tenant", mark)[0]


def outside(cluster: Cluster, cache: ResponseCache, shard: int) -> set[str]:
    """Return the fingerprints whose answers another shard keeps."""
    others = {mark for mark in MARKS if cluster.shard_of(key_of(cache, mark)) != shard}
    assert 0 < len(others) < len(MARKS)
    return others


def fill(cache: ResponseCache) -> None:
    for mark in MARKS:
        cache.put("tenant", mark, ANSWER)


def found(cache: ResponseCache) -> set[str]:
    return {mark for mark in MARKS if cache.get("tenant", mark) == ANSWER}


def slowest_s(call: Callable[[str], object]) -> float:
    """Return how long the slowest call took, of one for each fingerprint."""
    longest_s = 0.0
    for mark in MARKS:
        began_s = time.monotonic()
        call(mark)
        longest_s = max(longest_s, time.monotonic() - began_s)
    return longest_s


def test_answers_spread_over_all_primaries_and_all_are_found(cluster: Cluster, cache: ResponseCache) -> None:
    fill(cache)

    assert found(cache) == set(MARKS)
    keys = [set(node.client.keys("answers:*:entry:*")) for node in cluster.nodes[:3]]
    assert min(len(of_one) for of_one in keys) > len(MARKS) / 6
    assert len({key_slot(key) for of_one in keys for key in of_one}) > 100


def test_the_answers_of_a_scope_or_all_are_forgotten_on_every_primary(cache: ResponseCache) -> None:
    fill(cache)
    cache.put("other", MARKS[0], ANSWER)

    cache.invalidate("tenant")
    assert found(cache) == set()
    assert cache.get("other", MARKS[0]) == ANSWER
    fill(cache)
    cache.invalidate(None)
    assert found(cache) == set()
    assert cache.get("other", MARKS[0]) is None


def test_values_lie_on_the_cluster(cache: ResponseCache, client: redis.Redis) -> None:
    for number in range(20):
        cache.keep_value("tenant", f"key-{number}", str(number).encode(), 60)

    assert [cache.value("tenant", f"key-{number}")[0] for number in range(20)] == [  # type: ignore[index]
        str(number).encode() for number in range(20)]
    assert not client.keys("cached:*")
    assert [cache.forget_value("tenant", "key-3") for _ in range(2)] == [True, False]


def test_a_slot_that_moved_is_followed(cluster: Cluster, cache: ResponseCache) -> None:
    fill(cache)
    mark = next(mark for mark in MARKS if cluster.shard_of(key_of(cache, mark)) == 0)
    slot = key_slot(key_of(cache, mark).encode())
    for source, target in ((0, 1), (1, 0)):
        cluster.move_slot(slot, cluster.nodes[source], cluster.nodes[target])

        assert found(cache) == set(MARKS)


def test_a_primary_that_hangs_delays_its_own_answers_only_and_briefly(
        settings: Settings, client: redis.Redis, cluster: Cluster) -> None:
    """Its replica is kept from taking over; a process that starts meanwhile finds the others' answers as well."""
    cache = ResponseCache(settings, client)
    fill(cache)
    of_others = outside(cluster, cache, 2)
    there = next(name for name in map(str, range(99)) if cluster.shard_of(f"cached:tenant:{name}") == 2)
    stopped = cluster.shard(2)
    for node in stopped:
        kill(node.process.pid, signal.SIGSTOP)
    try:
        assert slowest_s(lambda mark: cache.get("tenant", mark)) < 2 * TIMEOUT_S + SLACK_S
        assert of_others <= found(cache)
        assert cache.figures()["breaker_open"] >= 1
        with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
            cache.keep_value("tenant", there, b"1", 60)
        late = ResponseCache(settings, client)
        wait_until(lambda: of_others <= found(late), timeout_s=10, what="a new process to find the others' answers")
    finally:
        for node in reversed(stopped):
            kill(node.process.pid, signal.SIGCONT)
    wait_until(lambda: all(clusters.is_whole(node) for node in cluster.nodes), timeout_s=20, what="the cluster to be whole")
    wait_until(lambda: found(cache) >= of_others, timeout_s=10, what="the cache to be used again")


def test_a_cluster_that_hangs_delays_a_call_no_longer_than_one_server(
        settings: Settings, client: redis.Redis, cluster: Cluster) -> None:
    brief = replace(settings, cache_timeout_s=0.1)
    known = ResponseCache(brief, client)
    fill(known)
    for node in cluster.nodes:
        kill(node.process.pid, signal.SIGSTOP)
    try:
        assert slowest_s(lambda mark: known.get("tenant", mark)) < 2 * 0.1 + SLACK_S
        late = ResponseCache(brief, client)
        assert slowest_s(lambda mark: late.put("tenant", mark, ANSWER)) < 2 * 0.1 + SLACK_S
        with pytest.raises(redis.exceptions.RedisError):
            known.invalidate("tenant")
    finally:
        for node in cluster.nodes:
            kill(node.process.pid, signal.SIGCONT)
    wait_until(lambda: all(clusters.is_whole(node) for node in cluster.nodes), timeout_s=20, what="the cluster to be whole")


def test_a_killed_primary_costs_its_answers_until_its_replica_takes_over_and_no_call_fails(
        settings: Settings, client: redis.Redis, cluster: Cluster) -> None:
    """Last, for the cluster is one server less afterwards."""
    cache = ResponseCache(settings, client)
    fill(cache)
    primary, replica = cluster.shard(1)
    of_others = outside(cluster, cache, 1)
    assert primary.client.wait(1, 5000) == 1, "the replica has it all"
    kill(primary.process.pid)

    slowest = max(slowest_s(lambda mark: cache.get("tenant", mark)), slowest_s(lambda mark: cache.put("new", mark, ANSWER)))
    assert slowest < 2 * TIMEOUT_S + SLACK_S
    assert of_others <= found(cache)
    wait_until(lambda: cluster.is_promoted(replica, primary), timeout_s=30, what="the replica to take over")
    wait_until(lambda: found(cache) == set(MARKS), timeout_s=15, what="the lost answers to be found on the replica")
    cache.put("tenant", "new", ANSWER)
    cache.invalidate("tenant")
    assert found(cache) == set()
