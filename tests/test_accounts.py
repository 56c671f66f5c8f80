"""Accounts and API keys: who may log in, and which key stands for whom."""

import time

import pytest
import redis

from app.accounts import KEY_PREFIX, Account, Accounts, ApiKey, Role, Scope
from app.errors import InvalidInput
from ops.waiting import wait_until
from tests.model_ledger import everything


@pytest.fixture
def accounts(client: redis.Redis) -> Accounts:
    return Accounts(client)


def values(client: redis.Redis) -> bytes:
    """Return everything that lies in Redis, keys and values, as one text."""
    return repr(everything(client)).encode()


# -- accounts


@pytest.mark.parametrize("role", list(Role))
def test_an_account_is_found_by_its_name_as_it_was_added(accounts: Accounts, role: Role) -> None:
    before_ms = time.time_ns() // 1_000_000

    added = accounts.add("ann", role, "hash")

    assert accounts.find("ann") == added
    assert (added.username, added.role, added.password_hash) == ("ann", role, "hash")
    assert before_ms <= added.created_ms <= time.time_ns() // 1_000_000


def test_a_name_that_nobody_has_finds_nothing(accounts: Accounts, client: redis.Redis) -> None:
    assert accounts.find("ann") is None
    assert accounts.all() == []
    assert not accounts.set_password("ann", "hash")
    assert not accounts.remove("ann")
    assert everything(client) == {}


def test_a_taken_name_is_refused_and_its_account_stays_as_it_was(accounts: Accounts) -> None:
    first = accounts.add("ann", Role.OPERATOR, "hash")

    with pytest.raises(InvalidInput, match="the username 'ann' is taken"):
        accounts.add("ann", Role.USER, "other")
    assert accounts.find("ann") == first


def test_names_that_differ_in_case_are_different_accounts(accounts: Accounts) -> None:
    assert accounts.add("ann", Role.USER, "x").id != accounts.add("Ann", Role.USER, "x").id


def test_all_accounts_come_by_name(accounts: Accounts) -> None:
    for name in ("cid", "ann", "bob"):
        accounts.add(name, Role.USER, "hash")

    assert [account.username for account in accounts.all()] == ["ann", "bob", "cid"]


def test_a_new_password_replaces_the_old_one_and_nothing_else(accounts: Accounts) -> None:
    before = accounts.add("ann", Role.OPERATOR, "old")

    assert accounts.set_password("ann", "new")

    after = accounts.find("ann")
    assert after is not None
    assert after.password_hash == "new"
    assert (after.id, after.role, after.created_ms) == (before.id, before.role, before.created_ms)
    assert after.version > before.version


def test_a_disabled_account_says_so_until_it_is_enabled(accounts: Accounts) -> None:
    before = accounts.add("ann", Role.USER, "hash")

    assert accounts.disable("ann")
    disabled = accounts.find("ann")
    assert disabled is not None
    assert disabled.disabled_ms is not None
    assert accounts.enable("ann")
    enabled = accounts.find("ann")
    assert enabled is not None
    assert (enabled.disabled_ms, enabled.id, enabled.password_hash) == (None, before.id, "hash")


def test_what_is_changed_of_an_account_that_is_not_there_makes_none(accounts: Accounts, client: redis.Redis) -> None:
    assert not any((accounts.set_role("ann", Role.USER), accounts.disable("ann"), accounts.enable("ann")))
    assert everything(client) == {}


def test_a_removed_account_is_gone_with_its_keys_and_leaves_nothing(accounts: Accounts, client: redis.Redis) -> None:
    ann = accounts.add("ann", Role.USER, "hash")
    texts = [accounts.add_key(ann, name)[0] for name in ("laptop", "phone")]

    assert accounts.remove("ann")

    assert accounts.find("ann") is None
    assert [accounts.find_key(text) for text in texts] == [None, None]
    assert not accounts.remove("ann")
    assert everything(client) == {}


def test_removing_an_account_leaves_the_others_and_their_keys(accounts: Accounts) -> None:
    bob = accounts.add("bob", Role.USER, "hash")
    text, key = accounts.add_key(bob, "phone")
    accounts.add_key(accounts.add("ann", Role.USER, "hash"), "laptop")

    accounts.remove("ann")

    assert accounts.all() == [bob]
    assert accounts.find_key(text) == key


def test_a_name_can_be_used_again_and_is_another_tenant_then(accounts: Accounts) -> None:
    first = accounts.add("ann", Role.OPERATOR, "hash")
    accounts.remove("ann")

    second = accounts.add("ann", Role.USER, "hash")
    assert second.id != first.id
    assert second.role is Role.USER


# -- keys


@pytest.fixture
def ann(accounts: Accounts) -> Account:
    return accounts.add("ann", Role.OPERATOR, "hash")


def test_a_key_stands_for_its_account(accounts: Accounts, ann: Account) -> None:
    text, key = accounts.add_key(ann, "laptop")

    assert accounts.find_key(text) == key
    assert key == ApiKey(id=key.id, account_id=ann.id, username="ann", role=Role.OPERATOR, name="laptop",
                         scopes=frozenset(Scope), created_ms=key.created_ms)


def test_keys_are_long_random_and_known_by_their_prefix(accounts: Accounts, ann: Account) -> None:
    texts = {accounts.add_key(ann, "laptop")[0] for _ in range(20)}

    assert len(texts) == 20
    assert all(text.startswith(KEY_PREFIX) and len(text) >= len(KEY_PREFIX) + 43 for text in texts)  # 256 bits


def test_the_text_of_a_key_does_not_lie_in_redis(accounts: Accounts, client: redis.Redis, ann: Account) -> None:
    text, key = accounts.add_key(ann, "laptop")

    held = values(client)
    assert key.id.encode() in held, "the search would find nothing at all"
    for part in (text, text.removeprefix(KEY_PREFIX), text[-16:]):
        assert part.encode() not in held


def test_an_accounts_keys_are_listed_and_so_are_all(accounts: Accounts, ann: Account) -> None:
    bob = accounts.add("bob", Role.USER, "hash")
    keys = [accounts.add_key(account, name)[1] for account, name in ((ann, "a"), (ann, "b"), (bob, "c"))]

    def names(found: list[ApiKey]) -> list[str]:
        return sorted(key.name for key in found)

    assert names(accounts.keys("ann")) == ["a", "b"]
    assert names(accounts.keys("nobody")) == []
    assert names(accounts.keys()) == ["a", "b", "c"]
    assert sorted(accounts.keys(), key=repr) == sorted(keys, key=repr)


def test_a_revoked_key_is_unknown_and_the_others_stay(accounts: Accounts, ann: Account) -> None:
    lost, lost_key = accounts.add_key(ann, "lost")
    kept, kept_key = accounts.add_key(ann, "kept")

    assert accounts.revoke_key(lost_key.id)

    assert accounts.find_key(lost) is None
    assert accounts.find_key(kept) == kept_key
    assert accounts.keys("ann") == [kept_key]
    assert not accounts.revoke_key(lost_key.id)


@pytest.mark.parametrize("text", ["", "tk_", "tk_nobody", "ann", "\N{SNOWMAN}", "tk_" + "x" * 10_000])
def test_a_text_that_is_no_key_finds_nothing(accounts: Accounts, ann: Account, text: str) -> None:
    accounts.add_key(ann, "laptop")

    assert accounts.find_key(text) is None


# -- what a key may do, and until when


def test_a_key_has_the_scopes_that_it_was_made_with(accounts: Accounts, ann: Account) -> None:
    text, key = accounts.add_key(ann, "reader", scopes=[Scope.JOBS_READ, Scope.EVENTS])

    assert key.scopes == {Scope.JOBS_READ, Scope.EVENTS}
    assert accounts.find_key(text) == key


def test_a_key_of_a_user_has_all_scopes_but_the_operators(accounts: Accounts) -> None:
    text, _ = accounts.add_key(accounts.add("bob", Role.USER, "hash"), "phone")

    found = accounts.find_key(text)
    assert found is not None
    assert found.scopes == set(Scope) - {Scope.OPERATE}


def test_a_scope_that_the_role_does_not_allow_is_refused_and_no_key_made(accounts: Accounts) -> None:
    bob = accounts.add("bob", Role.USER, "hash")

    with pytest.raises(InvalidInput, match="the role user of 'bob' does not allow the scope operate; it allows chat, "):
        accounts.add_key(bob, "phone", scopes=[Scope.JOBS_READ, Scope.OPERATE])
    assert accounts.keys() == []


def test_a_key_loses_what_its_accounts_new_role_does_not_allow_and_gets_it_back(accounts: Accounts, ann: Account) -> None:
    text, _ = accounts.add_key(ann, "laptop", scopes=[Scope.OPERATE, Scope.CHAT])

    def scopes() -> set[Scope]:
        found = accounts.find_key(text)
        assert found is not None
        return set(found.scopes)

    accounts.set_role("ann", Role.USER)
    assert scopes() == {Scope.CHAT}
    accounts.set_role("ann", Role.OPERATOR)
    assert scopes() == {Scope.OPERATE, Scope.CHAT}


def test_a_key_made_before_there_were_scopes_has_what_the_role_allows(
        accounts: Accounts, ann: Account, client: redis.Redis) -> None:
    text, key = accounts.add_key(ann, "old", scopes=[])
    client.hdel(client.hget("apikeys", key.id), "scopes")

    found = accounts.find_key(text)
    assert found is not None
    assert found.scopes == set(Scope)


def test_an_expired_key_stands_for_nothing_and_is_still_listed(accounts: Accounts, ann: Account) -> None:
    text, _ = accounts.add_key(ann, "short", life_s=0.001)
    lasting, _ = accounts.add_key(ann, "lasting", life_s=3600)
    wait_until(lambda: accounts.find_key(text) is None, timeout_s=5, what="the key to expire")

    assert accounts.find_key(lasting) is not None
    assert {key.name: key.has_expired() for key in accounts.keys("ann")} == {"short": True, "lasting": False}


def test_the_time_of_a_keys_last_use_is_noted_and_a_revoked_key_is_not_brought_back_by_it(
        accounts: Accounts, ann: Account, client: redis.Redis) -> None:
    text, key = accounts.add_key(ann, "laptop")
    assert [each.used_ms for each in accounts.keys("ann")] == [None]

    accounts.find_key(text)

    (used,) = [each.used_ms for each in accounts.keys("ann")]
    assert used is not None
    assert used >= key.created_ms - 1000
    accounts.revoke_key(key.id)
    assert accounts.find_key(text) is None
    assert not list(client.scan_iter(match="apikey:*"))


def test_the_keys_of_a_disabled_account_rest_until_it_is_enabled(accounts: Accounts, ann: Account) -> None:
    text, key = accounts.add_key(ann, "laptop")

    accounts.disable("ann")
    assert accounts.find_key(text) is None
    accounts.enable("ann")
    assert accounts.find_key(text) == key
