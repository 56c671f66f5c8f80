"""The response cache on the main Redis: answers come back, are forgotten, counted and bounded."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import redis
from click.testing import CliRunner, Result

from app import logs
from app.accounts import Accounts, Role
from app.response_cache import Entry, ResponseCache
from app.settings import Settings
from ops.cache import cache as commands
from ops.embedded_redis import EmbeddedRedis
from ops.waiting import wait_until

ANSWER = Entry(model="scripted", result=b'{"text":"hello \xf0\x9f\x90\x8b"}', usage=b'{"prompt_tokens":1}')
MARK = "0f" * 32  # a fingerprint
_DATABASES = itertools.cycle(range(1, 16))


@pytest.fixture
def cache(settings: Settings, client: redis.Redis) -> ResponseCache:
    """A cache on the main Redis."""
    return ResponseCache(settings, client)


@pytest.fixture
def counting(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of an empty database that no cache of an earlier test is about to write figures to."""
    with redis.Redis(port=redis_server.port, db=next(_DATABASES)) as connection:
        connection.flushdb()
        yield connection


def answer(text: str) -> Entry:
    return Entry(model="scripted", result=text.encode(), usage=b"{}")


# -- answers


def test_an_answer_comes_back_as_it_was_kept_to_every_process(
        cache: ResponseCache, settings: Settings, client: redis.Redis) -> None:
    cache.put("tenant", MARK, ANSWER)

    assert ResponseCache(settings, client).get("tenant", MARK) == ANSWER


def test_an_answer_is_found_by_its_own_scope_and_fingerprint_only(cache: ResponseCache) -> None:
    cache.put("tenant", MARK, ANSWER)

    assert cache.get("other", MARK) is None
    assert cache.get("tenant", "f0" * 32) is None


def test_an_answer_can_be_replaced(cache: ResponseCache) -> None:
    cache.put("tenant", MARK, answer("old"))
    cache.put("tenant", MARK, ANSWER)

    assert cache.get("tenant", MARK) == ANSWER


def test_an_answer_ends_when_the_setting_says(settings: Settings, client: redis.Redis) -> None:
    cache = ResponseCache(replace(settings, cache_ttl_s=0.2), client)
    cache.put("tenant", MARK, ANSWER)

    wait_until(lambda: cache.get("tenant", MARK) is None, timeout_s=5, what="the answer to end")
    wait_until(lambda: not client.keys("answers:[^f]*"), timeout_s=5, what="all that belongs to it to end")


def test_an_answer_over_the_largest_size_is_not_kept(settings: Settings, client: redis.Redis) -> None:
    cache = ResponseCache(replace(settings, cache_entry_bytes=1000), client)
    cache.put("tenant", MARK, answer("a" * 1000))
    assert cache.get("tenant", MARK) is None

    cache.put("tenant", MARK, answer("a" * 900))
    assert cache.get("tenant", MARK) == answer("a" * 900)


def test_an_answer_is_kept_in_fewer_bytes_than_it_has(settings: Settings, counting: redis.Redis) -> None:
    cache = ResponseCache(settings, counting)
    cache.put("tenant", MARK, answer("the same words again and again, " * 100))

    assert cache.figures()["bytes_stored"] < 300


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"x\x9c\x03\x00\x00\x00\x00\x01"], ids=["cut", "rubbish", "empty"])
def test_an_answer_that_cannot_be_read_is_a_miss_that_is_logged(
        cache: ResponseCache, client: redis.Redis, damage: bytes) -> None:
    cache.put("tenant", MARK, ANSWER)
    (key,) = client.keys("answers:*:entry:*")
    client.set(key, client.getrange(key, 0, 31) + damage)  # it begins with two generations
    logged = logs.counters["response_cache_unreadable"]

    assert cache.get("tenant", MARK) is None
    assert logs.counters["response_cache_unreadable"] == logged + 1
    cache.put("tenant", MARK, ANSWER)
    assert cache.get("tenant", MARK) == ANSWER


# -- forgetting


def test_the_answers_of_one_scope_are_forgotten_and_others_stay(cache: ResponseCache) -> None:
    for scope in ("tenant", "other", "shared"):
        cache.put(scope, MARK, ANSWER)
    cache.invalidate("tenant")

    assert cache.get("tenant", MARK) is None
    assert cache.get("other", MARK) == cache.get("shared", MARK) == ANSWER


def test_all_answers_are_forgotten_and_values_stay(cache: ResponseCache) -> None:
    for scope in ("tenant", "shared"):
        cache.put(scope, MARK, ANSWER)
    cache.keep_value("tenant", "key", b"1", 60)
    cache.invalidate(None)

    assert cache.get("tenant", MARK) is cache.get("shared", MARK) is None
    assert cache.value("tenant", "key") is not None


@pytest.mark.parametrize("scope", ["tenant", None])
def test_what_was_forgotten_does_not_come_back_with_the_next_answer(cache: ResponseCache, scope: str | None) -> None:
    cache.put("tenant", MARK, ANSWER)
    cache.invalidate(scope)
    cache.put("tenant", "another", ANSWER)

    assert cache.get("tenant", MARK) is None
    assert cache.get("tenant", "another") == ANSWER


def test_a_generation_that_redis_evicted_forgets_answers_and_never_brings_any_back(
        cache: ResponseCache, client: redis.Redis) -> None:
    cache.put("tenant", "forgotten", ANSWER)
    cache.invalidate("tenant")
    cache.put("tenant", MARK, ANSWER)
    client.delete(*client.keys("answers:*:generation*"))

    assert cache.get("tenant", MARK) is None
    cache.put("tenant", "new", ANSWER)
    assert cache.get("tenant", MARK) is cache.get("tenant", "forgotten") is None
    assert cache.get("tenant", "new") == ANSWER


# -- bounds on the main Redis


def test_the_answers_that_end_first_make_room_for_new_ones(settings: Settings, client: redis.Redis) -> None:
    cache = ResponseCache(replace(settings, cache_max_bytes=6000), client)
    for number in range(20):
        cache.put("tenant", str(number), ANSWER)

    kept = [number for number in range(20) if cache.get("tenant", str(number))]
    assert kept == list(range(20 - len(kept), 20))
    assert 8 <= len(kept) <= 11
    assert cache.figures()["entries"] == len(kept) == len(client.keys("answers:*:entry:*"))
    assert 4000 < cache.figures()["bytes_held"] <= 6000


def test_an_answer_that_is_replaced_is_counted_once(cache: ResponseCache) -> None:
    cache.put("tenant", MARK, ANSWER)
    once = cache.figures()["bytes_held"]
    cache.put("tenant", MARK, answer("of another size " * 20))
    cache.put("tenant", MARK, ANSWER)

    assert (cache.figures()["entries"], cache.figures()["bytes_held"]) == (1, once)


def test_answers_that_have_ended_are_counted_no_more(settings: Settings, client: redis.Redis) -> None:
    brief = ResponseCache(replace(settings, cache_ttl_s=0.05), client)
    for number in range(5):
        brief.put("tenant", str(number), ANSWER)
    wait_until(lambda: not client.keys("answers:*:entry:*"), timeout_s=5, what="the answers to end")
    brief.put("tenant", MARK, ANSWER)

    assert client.zcard("answers:index") == 1


# -- figures


def test_figures_are_of_all_processes(settings: Settings, counting: redis.Redis) -> None:
    cache, other = (ResponseCache(settings, counting) for _ in range(2))
    cache.get("tenant", MARK)
    other.put("tenant", MARK, ANSWER)
    cache.get("tenant", MARK)
    other.get("tenant", MARK)
    other.figures()

    figures = cache.figures()
    assert {name: figures[name] for name in ("hits", "misses", "stores", "errors", "breaker_open", "entries")} == {
        "hits": 2, "misses": 1, "stores": 1, "errors": 0, "breaker_open": 0, "entries": 1}


def test_what_a_process_counted_is_written_soon_without_being_asked_for(
        settings: Settings, counting: redis.Redis) -> None:
    ResponseCache(settings, counting).get("tenant", MARK)

    wait_until(lambda: counting.hget("answers:figures", "misses") == b"1", timeout_s=10, what="the miss to be written")


# -- values of the cache service


def test_a_value_is_kept_for_its_time_and_for_its_tenant(cache: ResponseCache) -> None:
    cache.keep_value("tenant", "key", b"[1]", 60)

    found = cache.value("tenant", "key")
    assert found is not None
    assert found[0] == b"[1]"
    assert 50_000 < found[1] <= 60_000
    assert cache.value("other", "key") is None
    assert [cache.forget_value(tenant, "key") for tenant in ("other", "tenant", "tenant")] == [False, True, False]
    assert cache.value("tenant", "key") is None


# -- operators' commands


def told(settings: Settings, *arguments: str) -> Result:
    """Run `celery -A workers cache ...` in this process."""
    return CliRunner().invoke(commands, arguments, obj=SimpleNamespace(app=SimpleNamespace(tandem_settings=settings)))


def test_operators_see_the_figures(cache: ResponseCache, settings: Settings) -> None:
    cache.put("tenant", MARK, ANSWER)
    cache.get("tenant", MARK)
    cache.figures()

    lines = dict(line.rsplit(maxsplit=1) for line in told(settings, "figures").output.splitlines())
    assert {"hits", "misses", "stores", "errors", "bytes_stored", "breaker_open", "entries", "hit rate"} <= lines.keys()
    assert (lines["entries"], int(lines["hits"]) > 0) == ("1", True)


def test_operators_forget_the_answers_of_an_account_or_all(
        cache: ResponseCache, settings: Settings, client: redis.Redis) -> None:
    account = Accounts(client).add("ann", Role.USER, "no password")
    for scope in (account.id, "other"):
        cache.put(scope, MARK, ANSWER)

    assert told(settings, "invalidate", "ann").output == "forgotten: the answers of ann\n"
    assert (cache.get(account.id, MARK), cache.get("other", MARK)) == (None, ANSWER)
    assert told(settings, "invalidate", "--all").output == "forgotten: the answers of all\n"
    assert cache.get("other", MARK) is None


@pytest.mark.parametrize(("arguments", "message"), [
    ((), "name an account, or say --all"), (("ann", "--all"), "name an account, or say --all"),
    (("nobody",), "there is no account 'nobody'")])
def test_operators_are_told_whose_answers_to_name(settings: Settings, arguments: tuple[str, ...], message: str) -> None:
    done = told(settings, "invalidate", *arguments)
    assert done.exit_code != 0
    assert message in done.output
