"""The response cache on a Redis of its own: a broken one is an empty one, and holds nobody up for long."""

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from app import logs
from app.response_cache import Entry, ResponseCache
from app.settings import Settings
from ops import embedded_redis
from ops.embedded_redis import EmbeddedRedis, free_port, start
from ops.sandbox import kill
from ops.waiting import wait_until

ANSWER = Entry(model="scripted", result=b'{"text":"hello"}', usage=b'{"prompt_tokens":1}')
MARK = "0f" * 32  # a fingerprint
TIMEOUT_S = 0.25  # the default
SLACK_S = 0.75  # for a busy machine


@pytest.fixture
def main(tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a main Redis, which works."""
    server = start(tmp_path / "main", program=embedded_redis.bundled_program(), fsync="no")
    with redis.Redis.from_url(server.url) as client:
        yield client
    server.stop()


@pytest.fixture
def settings(own: EmbeddedRedis, tmp_path: Path) -> Settings:
    """Default settings with the cache on its own Redis."""
    return Settings(redis_url="unused", data_dir=tmp_path, cache_url=own.url)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that keeps nothing but the cache."""
    server = start(tmp_path / "own", program=embedded_redis.bundled_program(), fsync="no")
    yield server
    if server.process.poll() is None:
        kill(server.process.pid, signal.SIGCONT)
        server.stop()


def seconds_of_get(cache: ResponseCache) -> float:
    began_s = time.monotonic()
    assert cache.get("tenant", MARK) is None
    return time.monotonic() - began_s


def test_answers_lie_where_the_setting_says_and_are_bounded_there(
        settings: Settings, main: redis.Redis, own: EmbeddedRedis) -> None:
    cache = ResponseCache(settings, main)
    cache.put("tenant", MARK, ANSWER)
    cache.keep_value("tenant", "key", b"1", 60)

    assert cache.get("tenant", MARK) == ANSWER
    assert "entries" not in cache.figures()
    assert not main.keys("answers:*:*") + main.keys("cached:*")
    with redis.Redis.from_url(own.url) as there:
        assert there.dbsize() == 4, "the answer, two generations, the value"


def test_a_cache_that_is_down_is_an_empty_one_and_the_job_goes_on(settings: Settings, main: redis.Redis) -> None:
    cache = ResponseCache(replace(settings, cache_url=f"redis://127.0.0.1:{free_port()}/0"), main)
    cache.put("tenant", MARK, ANSWER)

    assert cache.get("tenant", MARK) is None
    assert cache.figures()["errors"] == 2
    for call in (lambda: cache.invalidate(None), lambda: cache.value("tenant", "key"),
                 lambda: cache.keep_value("tenant", "key", b"1", 1), lambda: cache.forget_value("tenant", "key")):
        with pytest.raises(redis.exceptions.ConnectionError):
            call()


def test_a_cache_that_was_restarted_is_used_again_by_the_next_call(
        settings: Settings, main: redis.Redis, own: EmbeddedRedis, tmp_path: Path) -> None:
    cache = ResponseCache(settings, main)
    cache.put("tenant", MARK, ANSWER)
    own.stop()
    again = start(tmp_path / "own", port=own.port, program=own.program, fsync="no")
    try:
        assert cache.get("tenant", MARK) == ANSWER
    finally:
        again.stop()


def test_a_cache_that_hangs_delays_a_few_calls_by_its_timeout_and_then_none_until_it_answers_again(
        settings: Settings, main: redis.Redis, own: EmbeddedRedis) -> None:
    cache = ResponseCache(settings, main)
    cache.put("tenant", MARK, ANSWER)
    before = dict(logs.counters)
    kill(own.process.pid, signal.SIGSTOP)

    delays = [seconds_of_get(cache) for _ in range(8)]
    assert max(delays) < TIMEOUT_S + SLACK_S
    assert min(delays[:5]) > TIMEOUT_S * 0.9, "each of the first waits"
    assert sum(delays[5:]) < SLACK_S, "the breaker is open"
    assert cache.figures()["breaker_open"] == 1

    kill(own.process.pid, signal.SIGCONT)
    wait_until(lambda: cache.get("tenant", MARK) == ANSWER, timeout_s=10, what="the cache to be used again")
    assert cache.figures()["breaker_open"] == 0
    for event in ("response_cache_left_alone", "response_cache_answers_again"):
        assert logs.counters[event] - before.get(event, 0) == 1, event


def test_a_cache_that_hangs_delays_the_requests_of_a_gateway_no_longer(
        own: EmbeddedRedis) -> None:
    """A hundred greenlets at once, as in the gateway, each with a connection of its own."""
    kill(own.process.pid, signal.SIGSTOP)
    program = textwrap.dedent(f"""
        from gevent import monkey; monkey.patch_all()
        import time, gevent, redis
        from app.response_cache import ResponseCache
        from app.settings import Settings
        cache = ResponseCache(Settings(cache_url={own.url!r}), redis.Redis())  # whose figures go nowhere
        began = time.monotonic()
        gevent.joinall([gevent.spawn(cache.get, "tenant", "mark") for _ in range(100)], raise_error=True)
        print(time.monotonic() - began)
    """)
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert float(out.stdout) < 2 * TIMEOUT_S + 2 * SLACK_S


def test_a_cache_that_is_full_keeps_nothing_more_and_is_read_on(
        settings: Settings, main: redis.Redis, own: EmbeddedRedis) -> None:
    cache = ResponseCache(settings, main)
    cache.put("tenant", MARK, ANSWER)
    with redis.Redis.from_url(own.url) as there:
        there.config_set("maxmemory", 1)
    logged = logs.counters["response_cache_refused"]
    for number in range(10):
        cache.put("tenant", str(number), ANSWER)

    assert cache.get("tenant", MARK) == ANSWER
    assert cache.get("tenant", "1") is None
    assert logs.counters["response_cache_refused"] == logged + 1
