"""Sessions: a refresh token is good once, and one that comes again ends them, whoever sends it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.accounts import Account, Accounts, Role
from app.errors import Unauthenticated
from app.sessions import Session, Sessions
from tests.model_ledger import everything

LIFE_S = 60.0


@pytest.fixture
def accounts(client: redis.Redis) -> Accounts:
    return Accounts(client)


@pytest.fixture
def ann(accounts: Accounts) -> Account:
    return accounts.add("ann", Role.OPERATOR, "hash")


@pytest.fixture
def sessions(client: redis.Redis) -> Sessions:
    return Sessions(client, life_s=LIFE_S)


@pytest.fixture
def strict(client: redis.Redis) -> Sessions:
    """Sessions for which every last reply arrived long ago."""
    return Sessions(client, life_s=LIFE_S, lost_reply_s=-1)


def begin(sessions: Sessions, account: Account) -> tuple[Session, str]:
    begun = sessions.begin(account.username, account.id, version=account.version)
    assert begun is not None
    return begun


def is_refused(refresh: Callable[[], object], words: str) -> bool:
    with pytest.raises(Unauthenticated, match=words):
        refresh()
    return True


def test_a_session_is_found_as_it_was_begun(sessions: Sessions, ann: Account) -> None:
    session, _ = begin(sessions, ann)

    assert session == Session(session.sid, ann.id, "ann", Role.OPERATOR)
    assert sessions.find(session.sid) == session
    assert sessions.find("0" * 32) is None


def test_a_chain_of_refreshes_stays_one_session(strict: Sessions, ann: Account) -> None:
    session, token = begin(strict, ann)
    tokens = {token}

    for _ in range(5):
        same, token = strict.refresh(token)
        assert same == session
        tokens.add(token)

    assert len(tokens) == 6
    assert strict.find(session.sid) == session


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_an_old_token_ends_its_session_for_everyone(strict: Sessions, ann: Account, steps: int) -> None:
    session, first = begin(strict, ann)
    newest = first
    for _ in range(steps):
        newest = strict.refresh(newest)[1]

    assert is_refused(lambda: strict.refresh(first), "was used before, so somebody else may have it")

    assert strict.find(session.sid) is None
    assert is_refused(lambda: strict.refresh(newest), "the session of this refresh token has ended")


def test_the_other_sessions_of_the_account_go_on(strict: Sessions, ann: Account) -> None:
    _, stolen = begin(strict, ann)
    other, kept = begin(strict, ann)
    strict.refresh(stolen)
    assert is_refused(lambda: strict.refresh(stolen), "used before")

    assert strict.refresh(kept)[0] == other


def test_a_token_made_up_from_what_an_access_token_shows_ends_nothing(sessions: Sessions, ann: Account) -> None:
    session, token = begin(sessions, ann)

    for forged in (f"rt_{session.sid}.x.y", f"rt_{session.sid}..", f"rt_{session.sid}", token.removeprefix("rt_"), "rt_",
                   token + ".z", f"rt_*.{token.partition('.')[2]}", "", "\N{SNOWMAN}"):
        assert is_refused(lambda forged=forged: sessions.refresh(forged), "log in again")
        assert not sessions.end(forged)

    assert sessions.refresh(token)[0] == session


def test_nothing_in_redis_is_good_for_a_refresh(sessions: Sessions, ann: Account, client: redis.Redis) -> None:
    session, token = begin(sessions, ann)
    _, family, secret = token.split(".")
    after = sessions.refresh(token)[1].split(".")[2]

    held = repr(everything(client)).encode()

    assert session.sid.encode() in held
    assert not [part for part in (family, secret, after) if part.encode() in held]


# -- a reply that was lost


def test_a_caller_that_saw_no_reply_goes_on_with_the_token_that_it_has(sessions: Sessions, ann: Account) -> None:
    session, sent = begin(sessions, ann)
    sessions.refresh(sent)

    again, token = sessions.refresh(sent)

    assert again == session
    assert sessions.refresh(token)[0] == session


def test_whoever_got_the_other_answer_to_the_same_token_ends_the_session(sessions: Sessions, ann: Account) -> None:
    """A thief and the owner send the same token within the time for lost replies: they cannot both go on."""
    session, token = begin(sessions, ann)
    one = sessions.refresh(token)[1]
    other = sessions.refresh(token)[1]
    newest = sessions.refresh(other)[1]

    assert is_refused(lambda: sessions.refresh(one), "used before")

    assert sessions.find(session.sid) is None
    assert is_refused(lambda: sessions.refresh(newest), "has ended")


def test_once_the_successor_was_used_the_reply_was_not_lost(sessions: Sessions, ann: Account) -> None:
    _, token = begin(sessions, ann)
    sessions.refresh(sessions.refresh(token)[1])

    assert is_refused(lambda: sessions.refresh(token), "used before")


def test_of_many_refreshes_at_once_one_answer_at_most_is_good(sessions: Sessions, ann: Account) -> None:
    _, token = begin(sessions, ann)
    with ThreadPoolExecutor(8) as threads:
        answers = [answer for _, answer in threads.map(lambda _: sessions.refresh(token), range(8))]

    assert len([answer for answer in answers if refreshed(sessions, answer)]) <= 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(st.tuples(st.sampled_from(["owner", "thief"]), st.booleans()), min_size=1, max_size=12),
       first=st.sampled_from(["owner", "thief"]))
def test_two_who_share_a_token_never_both_go_on(
        client: redis.Redis, strict: Sessions, script: list[tuple[str, bool]], first: str) -> None:
    """Each refreshes with the newest token that it has, or repeats what it sent last, all within the time for lost replies.
    However they do it, the newest token of one of them at most is good."""
    client.flushall()
    sessions = Sessions(client, life_s=LIFE_S)
    _, token = begin(sessions, Accounts(client).add("ann", Role.USER, "hash"))
    newest = dict.fromkeys(("owner", "thief"), token)
    last_sent = dict(newest)
    for who, repeats in script:
        last_sent[who] = last_sent[who] if repeats else newest[who]
        newest[who] = refreshed(sessions, last_sent[who]) or newest[who]

    second = "thief" if first == "owner" else "owner"

    assert not (refreshed(strict, newest[first]) and refreshed(strict, newest[second]))


def refreshed(sessions: Sessions, token: str) -> str | None:
    """Return the next token, or None when this one is refused."""
    try:
        return sessions.refresh(token)[1]
    except Unauthenticated:
        return None


# -- the ends


def test_a_logout_ends_the_session_with_an_old_token_too(sessions: Sessions, ann: Account) -> None:
    session, first = begin(sessions, ann)
    sessions.refresh(first)

    assert sessions.end(first)

    assert sessions.find(session.sid) is None
    assert not sessions.end(first)


@pytest.mark.parametrize("change", ["password", "disable", "remove"])
def test_what_ends_an_accounts_credentials_ends_all_its_sessions_and_no_others(
        sessions: Sessions, accounts: Accounts, ann: Account, client: redis.Redis, change: str) -> None:
    begun = [begin(sessions, ann) for _ in range(3)]
    bob = begin(sessions, accounts.add("bob", Role.USER, "hash"))[0]

    {"password": lambda: accounts.set_password("ann", "new"), "disable": lambda: accounts.disable("ann"),
     "remove": lambda: accounts.remove("ann")}[change]()

    for session, token in begun:
        assert sessions.find(session.sid) is None
        assert is_refused(lambda token=token: sessions.refresh(token), "has ended")
    assert sessions.find(bob.sid) == bob
    assert [key.decode() for key in client.scan_iter(match="session*") if ann.id in key.decode()] == []


@pytest.mark.parametrize("change", ["password", "disable", "remove", "role"])
def test_a_login_that_was_under_way_when_the_account_changed_begins_nothing(
        sessions: Sessions, accounts: Accounts, ann: Account, change: str) -> None:
    {"password": lambda: accounts.set_password("ann", "new"), "disable": lambda: accounts.disable("ann"),
     "remove": lambda: accounts.remove("ann"), "role": lambda: accounts.set_role("ann", Role.USER)}[change]()

    assert sessions.begin("ann", ann.id, version=ann.version) is None


def test_an_account_of_the_same_name_does_not_get_the_sessions(
        sessions: Sessions, accounts: Accounts, ann: Account, client: redis.Redis) -> None:
    session, token = begin(sessions, ann)
    held = client.hgetall(f"session:{session.sid}")
    accounts.remove("ann")
    accounts.add("ann", Role.OPERATOR, "hash")
    client.hset(f"session:{session.sid}", mapping=held)  # as though it had been begun in between

    assert sessions.find(session.sid) is None
    assert is_refused(lambda: sessions.refresh(token), "has ended")


def test_a_new_role_holds_for_sessions_that_are_there(sessions: Sessions, accounts: Accounts, ann: Account) -> None:
    session, token = begin(sessions, ann)

    accounts.set_role("ann", Role.USER)

    found = sessions.find(session.sid)
    assert found is not None
    assert (found.role, sessions.refresh(token)[0].role) == (Role.USER, Role.USER)


def test_a_session_that_is_not_refreshed_ends_by_itself(sessions: Sessions, ann: Account, client: redis.Redis) -> None:
    session, token = begin(sessions, ann)
    key = f"session:{session.sid}"
    client.pexpire(key, 5000)

    sessions.refresh(token)

    assert client.pttl(key) > 50_000, "a refresh lengthens its life"
    assert 0 < client.pttl(f"sessions:{ann.id}") <= LIFE_S * 1000
