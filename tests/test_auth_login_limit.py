"""Failed logins are limited, by account and by address, and nobody is locked out by another."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from app.api.client_address import client_address
from app.errors import LimitExceeded
from app.login_limit import LoginLimit, network
from app.settings import Settings
from ops.waiting import wait_until
from tests.model_ledger import everything

HOME, OFFICE, ELSEWHERE = "198.51.100.1", "198.51.100.2", "203.0.113.7"


@pytest.fixture
def few(settings: Settings) -> Settings:
    """Settings that allow few failures, so that a test needs few."""
    return replace(settings, login_attempts=3, login_account_attempts=5, login_address_attempts=8, login_window_s=60.0)


@pytest.fixture
def limit(client: redis.Redis, few: Settings) -> LoginLimit:
    return LoginLimit(client, few)


def failures(limit: LoginLimit, username: str, address: str, at_most: int = 100) -> int:
    """Fail until it is refused; return how many failures there were."""
    for number in range(at_most):
        try:
            limit.admit(username, address)
        except LimitExceeded:
            return number
    return at_most


def test_one_account_from_one_address(limit: LoginLimit) -> None:
    assert failures(limit, "ann", HOME) == 3
    assert failures(limit, "bob", HOME) == 3, "another account has its own count"
    assert failures(limit, "ann", OFFICE) == 2, "the account's count of all addresses is 5"


def test_one_account_from_many_addresses(limit: LoginLimit) -> None:
    assert sum(failures(limit, "ann", f"203.0.113.{number}", at_most=1) for number in range(20)) == 5


def test_many_accounts_from_one_address(limit: LoginLimit) -> None:
    assert sum(failures(limit, f"user{number}", HOME, at_most=1) for number in range(20)) == 8
    assert failures(limit, "ann", OFFICE, at_most=1) == 1


def test_both_gateways_count_together_and_none_slips_through_at_once(client: redis.Redis, few: Settings) -> None:
    gateways = [LoginLimit(client, few), LoginLimit(client, few)]

    with ThreadPoolExecutor(16) as threads:
        admitted = sum(threads.map(lambda n: failures(gateways[n % 2], "ann", HOME, at_most=1), range(100)))

    assert admitted == 3


def test_the_refusal_says_when_to_try_again(limit: LoginLimit) -> None:
    failures(limit, "ann", HOME)

    with pytest.raises(LimitExceeded, match=r"too many logins failed .* try again in (59|60) s") as refused:
        limit.admit("ann", HOME)
    assert 59 <= refused.value.retry_after_s <= 60
    assert refused.value.status == 429


def test_the_limit_ends_with_its_window_though_others_keep_trying(client: redis.Redis, few: Settings) -> None:
    limit = LoginLimit(client, replace(few, login_window_s=0.3))
    failures(limit, "ann", HOME)

    wait_until(lambda: failures(limit, "ann", HOME, at_most=1), timeout_s=5, what="the window to end")


def test_a_success_forgets_the_accounts_failures_but_not_the_addresss(limit: LoginLimit) -> None:
    assert failures(limit, "ann", HOME, at_most=2) == 2
    limit.admit("ann", HOME)
    limit.succeeded("ann", HOME)

    assert failures(limit, "ann", HOME) == 3
    assert failures(limit, "bob", HOME) == 3
    assert failures(limit, "cid", HOME) == 0, "the address has failed 8 times"


def test_logins_that_succeed_never_use_a_limit_up(limit: LoginLimit) -> None:
    for _ in range(50):
        limit.admit("ann", HOME)
        limit.succeeded("ann", HOME)


def test_an_attempt_that_got_no_answer_does_not_count(limit: LoginLimit) -> None:
    for _ in range(50):
        limit.admit("ann", HOME)
        limit.unanswered("ann", HOME)

    assert failures(limit, "ann", HOME) == 3


def test_nobody_elsewhere_keeps_an_owner_out(limit: LoginLimit) -> None:
    limit.admit("ann", HOME)
    limit.succeeded("ann", HOME)
    for number in range(20):
        failures(limit, "ann", f"203.0.113.{number}")
    assert failures(limit, "ann", ELSEWHERE, at_most=1) == 0, "strangers have used up the account's count"

    limit.admit("ann", HOME)
    limit.succeeded("ann", HOME)


def test_an_owners_address_is_limited_too(limit: LoginLimit) -> None:
    limit.admit("ann", HOME)
    limit.succeeded("ann", HOME)

    assert failures(limit, "ann", HOME) == 3


def test_names_do_not_lie_in_redis_and_all_counts_end_by_themselves(limit: LoginLimit, client: redis.Redis) -> None:
    failures(limit, "a-name-to-look-for", HOME)
    limit.succeeded("a-name-to-look-for", HOME)

    kept = everything(client)
    assert kept
    assert not [key for key, dump in kept.items() if b"a-name-to-look-for" in key + (dump or b"")]
    assert all(client.pttl(key) > 0 for key in kept)


@pytest.mark.parametrize(("one", "other", "same"), [
    ("192.0.2.1", "192.0.2.2", False), ("192.0.2.1", "::ffff:192.0.2.1", True),
    ("2001:db8::1", "2001:db8::ffff:1", True), ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ("", "no address", True)])
def test_what_one_holder_can_choose_from_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (network(one) == network(other)) is same


@pytest.mark.parametrize(("proxies", "header", "address"), [
    (0, None, "10.0.0.1"), (0, "192.0.2.1", "10.0.0.1"), (1, None, "10.0.0.1"), (1, "192.0.2.1", "192.0.2.1"),
    (1, "made up, 192.0.2.1", "192.0.2.1"), (2, "made up, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
    (2, "192.0.2.1", "10.0.0.1"), (1, "192.0.2.1:4711", "192.0.2.1"), (1, "[2001:db8::1]:4711", "2001:db8::1"),
    (1, "2001:db8::1", "2001:db8::1"), (1, "", "10.0.0.1"), (1, "192.0.2.1, ", "10.0.0.1")])
def test_the_header_is_believed_as_far_as_proxies_wrote_it(proxies: int, header: str | None, address: str) -> None:
    environ = {"REMOTE_ADDR": "10.0.0.1"} | ({} if header is None else {"HTTP_X_FORWARDED_FOR": header})

    assert client_address(environ, proxies) == address
