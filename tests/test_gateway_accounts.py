"""Accounts and API keys, as operators make and end them with `celery -A workers users ...` and `keys ...`, and as the
gateway then sees them. One life of an account and one of a key go through processes, as do two refusals."""

import re
import uuid
from collections.abc import Iterator

import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.operating import operate

PASSWORD = "long enough"
SOON_S = 2  # less than a gateway believes a key unheard


@pytest.fixture
def name() -> str:
    """A username that nobody has."""
    return f"a.{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def taken(stack: Sandbox) -> str:
    """The username of an account."""
    name = f"taken-{uuid.uuid4().hex[:8]}"
    run(stack, "users", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
    return name


@pytest.fixture
def nobody(stack: Sandbox) -> Iterator[Caller]:
    """A caller without credentials."""
    with Caller(stack.report()["entry"]) as one:
        yield one


def run(stack: Sandbox, *arguments: str, stdin: str = "") -> str:
    """Run a command that must succeed, and return what it printed."""
    done = operate(stack, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_process(stack: Sandbox, *arguments: str, stdin: str = "") -> str:
    """The same, with a process of its own."""
    done = stack.celery(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def logs_in(nobody: Caller, name: str, password: str) -> bool:
    answer = nobody.call("POST", "/v1/auth/login", json={"username": name, "password": password})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


# -- accounts


def test_an_account_lives_from_add_through_a_new_password_to_remove(stack: Sandbox, nobody: Caller, name: str) -> None:
    added = run_process(stack, "users", "add", name)
    (first,) = re.findall(r"^password: (\S{16,})$", added, re.MULTILINE)
    assert f"added {name} (user), id " in added
    assert re.search(rf"^{re.escape(name)} +user +[0-9a-f-]{{36}}$", run(stack, "users", "list"), re.MULTILINE)
    assert logs_in(nobody, name, first)

    assert run_process(stack, "users", "password", name, "--password-stdin", stdin=f"{PASSWORD}\n") == (
        f"changed the password of {name}\n")
    assert not logs_in(nobody, name, first)
    assert logs_in(nobody, name, PASSWORD)

    assert run_process(stack, "users", "remove", name) == f"removed {name}\n"
    assert not logs_in(nobody, name, PASSWORD)
    assert name not in run(stack, "users", "list")


def test_a_name_that_was_removed_and_added_again_is_another_account(stack: Sandbox, name: str) -> None:
    first, second = stack.report()["gateways"].values()
    run(stack, "users", "add", name)
    old_key = run(stack, "keys", "add", name).strip()
    with Caller(first, old_key) as old:
        job = old.submit("hello", headers={"Prefer": "wait=30"})
    run(stack, "users", "remove", name)
    run(stack, "users", "add", name, "--role", "operator")

    with Caller(second, run(stack, "keys", "add", name).strip()) as new, Caller(second, old_key) as old:
        assert new.call("GET", f"/v1/jobs/{job['id']}").status_code == 404
        assert new.call("GET", "/v1/status").status_code == 200, "the new account is an operator"
        assert old.call("GET", f"/v1/jobs/{job['id']}").status_code == 401, "the old account's key lives on"


@pytest.mark.parametrize(("arguments", "stdin", "code", "words"), [
    ("users add TAKEN", "", 1, "the username 'TAKEN' is taken"),
    ("users add NEW --password-stdin", "short\n", 1, "a password has 8 to 1000 characters"),
    ("users add NEW --password-stdin", "p" * 1001, 1, "a password has 8 to 1000 characters"),
    ("users add NEW --role god", "", 2, "'god' is not one of 'user', 'operator'"),
    ("users add A*", "", 2, "lower-case letters, digits and . _ @ -"),
    ("users add LONG", "", 2, "100 at most"),
    ("users password NEW", "", 1, "there is no account 'NEW'; `users list` shows them"),
    ("users remove NEW", "", 1, "there is no account 'NEW'; `users list` shows them"),
    ("users role NEW user", "", 1, "there is no account 'NEW'; `users list` shows them"),
    ("users role TAKEN god", "", 2, "'god' is not one of 'user', 'operator'"),
    ("users disable NEW", "", 1, "there is no account 'NEW'; `users list` shows them"),
    ("users enable NEW", "", 1, "there is no account 'NEW'; `users list` shows them"),
    ("keys add TAKEN --scopes jobs:read,god", "", 2, "'god' is not one of jobs:read, jobs:write, chat, events, operate"),
    ("keys add TAKEN --scopes operate", "", 1, "the role user of 'TAKEN' does not allow the scope operate"),
    ("keys add TAKEN --expires-days 0", "", 2, "0.0 is not in the range"),
    ("keys add NEW", "", 1, "there is no account 'NEW'; `users list` shows them"),
    ("keys revoke NEW", "", 1, "there is no key 'NEW'; `keys list` shows them")], ids=range(17))
def test_a_command_that_cannot_be_done_says_why_and_changes_nothing(
        stack: Sandbox, name: str, taken: str, arguments: str, stdin: str, code: int, words: str) -> None:
    named = {"NEW": name, "TAKEN": taken, "LONG": "a" * 101}
    client = stack.client()
    before = client.smembers("accounts"), client.hgetall("apikeys"), client.hgetall(f"account:{taken}")

    done = operate(stack, *(named.get(word, word) for word in arguments.split()), stdin=stdin)

    assert (done.returncode, done.stdout) == (code, "")
    assert words.replace("NEW", name).replace("TAKEN", taken) in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert (client.smembers("accounts"), client.hgetall("apikeys"), client.hgetall(f"account:{taken}")) == before


@pytest.mark.parametrize(("role", "code", "words"), [
    ("user", 1, "Error: the username 'TAKEN' is taken"),
    ("god", 2, "'god' is not one of 'user', 'operator'")])
def test_the_process_of_a_command_that_cannot_be_done_ends_with_a_code_and_a_line(
        stack: Sandbox, taken: str, role: str, code: int, words: str) -> None:
    done = stack.celery("users", "add", taken, "--role", role)

    assert (done.returncode, done.stdout) == (code, "")
    assert words.replace("TAKEN", taken) in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_disabled_account_is_let_in_nowhere_until_it_is_enabled(stack: Sandbox, nobody: Caller, name: str) -> None:
    run(stack, "users", "add", name, "--password-stdin", stdin=f"{PASSWORD}\n")
    key = run(stack, "keys", "add", name).strip()
    with Caller(nobody.address, key) as caller:
        assert caller.call("GET", "/v1/jobs/1").status_code == 404

        assert run(stack, "users", "disable", name) == f"disabled {name}\n"
        assert re.search(rf"^{re.escape(name)} +user +[0-9a-f-]{{36}}  disabled$", run(stack, "users", "list"),
                         re.MULTILINE)
        assert not logs_in(nobody, name, PASSWORD)
        assert caller.call("GET", "/v1/jobs/1").status_code == 401

        assert run(stack, "users", "enable", name) == f"enabled {name}\n"
        assert logs_in(nobody, name, PASSWORD)
        assert caller.call("GET", "/v1/jobs/1").status_code == 404


def test_scopes_times_and_roles_are_listed_and_hold(stack: Sandbox, nobody: Caller, name: str) -> None:
    run(stack, "users", "add", name)
    assert run(stack, "users", "role", name, "operator") == f"{name} has the role operator\n"
    text = run(stack, "keys", "add", name, "--scopes", "operate,events", "--expires-days", "1").strip()
    with Caller(nobody.address, text) as watcher:
        assert watcher.call("GET", "/v1/status").status_code == 200
        assert watcher.call("GET", "/v1/jobs/1").status_code == 403
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\dZ"
    assert re.search(rf" default +expires {moment} +used {moment} +events,operate$", run(stack, "keys", "list", name),
                     re.MULTILINE)


# -- keys


def test_a_key_acts_for_its_account_until_it_is_revoked(stack: Sandbox, nobody: Caller, taken: str) -> None:
    added = stack.celery("keys", "add", taken, "--name", "laptop")
    key, other = added.stdout.strip(), run(stack, "keys", "add", taken).strip()
    (key_id,) = re.findall(rf"^key (\w+) \(laptop\) for {taken}, shown this once:$", added.stderr, re.MULTILINE)
    assert re.fullmatch(r"tk_[\w-]{43}", key)
    listed = run(stack, "keys", "list", taken)
    assert re.search(rf"^{key_id} +{taken} +laptop +does not expire +never used +chat,events,jobs:read,jobs:write$", listed,
                     re.MULTILINE)
    assert len(listed.splitlines()) == 2
    assert key not in listed
    client = stack.client()
    records = [where + repr(client.hgetall(where)).encode() for where in client.hvals("apikeys")]
    assert key.encode() not in b"".join(records), "only its hash is kept"

    with Caller(nobody.address, key) as caller, Caller(nobody.address, other) as same:
        job = caller.submit("hello", headers={"Prefer": "wait=30"})
        assert same.job(job["id"]) == job, "keys of one account see the same jobs"
        assert run_process(stack, "keys", "revoke", key_id) == f"revoked {key_id}\n"
        assert key_id not in run(stack, "keys", "list", taken)

        wait_until(lambda: caller.call("GET", f"/v1/jobs/{job['id']}").status_code == 401, timeout_s=SOON_S,
                   what="the gateways to refuse the revoked key")
        assert caller.call("GET", f"/v1/jobs/{job['id']}").json()["detail"] == (
            "the API key is not known; it may have been revoked or have expired")
        assert same.job(job["id"]) == job


def test_a_key_that_no_gateway_saw_yet_is_refused_at_once_when_it_is_revoked(stack: Sandbox, taken: str) -> None:
    added = operate(stack, "keys", "add", taken)
    (key_id,) = re.findall(r"^key (\w+) ", added.stderr)
    run(stack, "keys", "revoke", key_id)

    for address in stack.report()["gateways"].values():
        with Caller(address, added.stdout.strip()) as caller:
            assert caller.call("GET", "/v1/jobs/1").status_code == 401
