"""Believed credentials: never for longer than told, and not across a time in which nothing was heard."""

import time
from dataclasses import replace

import pytest
import redis

from app.accounts import Role
from app.api import beliefs as module
from app.api.beliefs import Belief, Beliefs
from app.api.caller import Caller
from app.settings import Settings
from ops.embedded_redis import free_port
from ops.waiting import wait_until

ANN = Caller("ann's id", "ann", Role.USER)


@pytest.fixture
def hearing(settings: Settings) -> Beliefs:
    """Beliefs that hear what is revoked."""
    beliefs = Beliefs(settings)
    keep(beliefs, "first", life_s=5)
    wait_until(lambda: beliefs.revocations, timeout_s=5, what="the hearing to begin")
    return beliefs


def keep(beliefs: Beliefs, credentials: str, *names: str, life_s: float = 60.0) -> None:
    beliefs.keep(credentials, Belief(ANN, time.time() + life_s, names), since=beliefs.revocations)


def test_what_was_believed_before_the_hearing_began_is_forgotten(hearing: Beliefs) -> None:
    assert hearing.get("first") is None


def test_only_what_is_revoked_is_forgotten(hearing: Beliefs, client: redis.Redis) -> None:
    keep(hearing, "token", "session:1", "account:1")
    keep(hearing, "key", "key:1", "account:1")
    keep(hearing, "other", "key:2", "account:2")

    client.publish("revoked", "session:1")
    wait_until(lambda: not hearing.get("token"), timeout_s=2, what="the session to be forgotten")
    assert (hearing.get("key"), hearing.get("other")) == (ANN, ANN)
    client.publish("revoked", "account:1")
    wait_until(lambda: not hearing.get("key"), timeout_s=2, what="the account to be forgotten")
    assert hearing.get("other") == ANN
    client.publish("revoked", "everything")
    wait_until(lambda: not hearing.get("other"), timeout_s=2, what="everything to be forgotten")


def test_after_a_broken_connection_everything_is_looked_up_again(hearing: Beliefs, client: redis.Redis) -> None:
    keep(hearing, "token", "session:1")

    client.client_kill_filter(_type="pubsub")

    wait_until(lambda: not hearing.get("token"), timeout_s=5, what="all beliefs to be forgotten")


def test_without_redis_nothing_is_believed_for_longer_than_told(settings: Settings) -> None:
    beliefs = Beliefs(replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0"))

    keep(beliefs, "token", "session:1", life_s=0.2)

    assert beliefs.get("token") == ANN
    wait_until(lambda: not beliefs.get("token"), timeout_s=2, what="the belief to end")


def test_a_flood_of_credentials_does_not_fill_the_memory(hearing: Beliefs) -> None:
    for number in range(module._REMEMBERED + 100):
        keep(hearing, f"token{number}", f"session:{number}")

    assert len(hearing._believed) == len(hearing._by_name) == 100
