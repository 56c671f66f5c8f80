"""The keys that sign access tokens: shared by all servers, replaced while tokens live, and no burden on Redis."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import redis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt import PyJWK
from redis.backoff import NoBackoff
from redis.retry import Retry

from app import signing_keys
from app.errors import SettingsError, StoreUnavailable
from app.keyring import Keyring, load_keyring
from app.signing_keys import SigningKeys
from ops.embedded_redis import free_port
from ops.waiting import wait_until

LIFE_S = 900.0


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return load_keyring(tmp_path)


@pytest.fixture
def server(client: redis.Redis, keyring: Keyring) -> Callable[[], SigningKeys]:
    """Makes what one server's process holds; all have the same Redis and the same seal."""
    return lambda: SigningKeys(client, keyring, token_life_s=LIFE_S)


def reads(client: redis.Redis) -> int:
    """How often keys were read from Redis so far."""
    return int(client.info("commandstats").get("cmdstat_hgetall", {}).get("calls", 0))


def change(client: redis.Redis, kid: str, **members: int) -> None:
    """Change the times of a key, as though it had been made at another one."""
    record = msgspec.json.decode(client.hget("signingkeys", kid))
    client.hset("signingkeys", kid, msgspec.json.encode(record | members))


def test_all_servers_sign_with_the_same_key(server: Callable[[], SigningKeys]) -> None:
    first, second = server().signing(), server().signing()

    assert first.kid == second.kid
    assert first.private.private_bytes_raw() == second.private.private_bytes_raw()


def test_an_older_installations_key_becomes_the_first(client: redis.Redis, tmp_path: Path) -> None:
    load_keyring(tmp_path)
    key = Ed25519PrivateKey.generate()
    (tmp_path / "secrets" / "token-key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    found = SigningKeys(client, load_keyring(tmp_path), token_life_s=LIFE_S).signing()

    assert found.private.private_bytes_raw() == key.private_bytes_raw()


def test_no_private_key_lies_open_in_redis(client: redis.Redis, server: Callable[[], SigningKeys]) -> None:
    key = server().signing()

    raw = key.private.private_bytes_raw()
    (record,) = client.hgetall("signingkeys").values()
    sealed = msgspec.json.decode(record)["sealed"]
    assert raw not in record
    assert raw.hex().encode() not in record
    assert len(sealed) > 100, "the record holds a sealed key"


def test_the_kid_is_the_thumbprint_and_the_published_key_verifies(server: Callable[[], SigningKeys]) -> None:
    keys = server()
    key = keys.signing()

    jwk = key.jwk()
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
    PyJWK(jwk).key.verify(key.private.sign(b"text"), b"text")
    assert len(key.kid) == 43
    assert [each.kid for each in keys.published()] == [key.kid]


def test_the_thumbprint_is_that_of_the_standards_example(client: redis.Redis) -> None:
    raw = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8037, appendix A

    public = Ed25519PrivateKey.from_private_bytes(raw).public_key()

    assert signing_keys._thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_new_key_is_published_before_it_signs_and_the_old_one_believed_until_its_tokens_expire(
        client: redis.Redis, server: Callable[[], SigningKeys]) -> None:
    keys, other = server(), server()
    old = keys.signing()

    new = keys.rotate()

    assert keys.signing().kid == other.signing().kid == old.kid
    assert [key.kid for key in server().published()] == [old.kid, new.kid]
    change(client, new.kid, signs_from_ms=round(time.time() * 1000) - 1)
    assert keys.signing().kid == other.signing().kid == new.kid
    (until_ms,) = [key.until_ms for key in keys.published() if key.kid == old.kid]
    assert until_ms is not None
    assert until_ms >= (time.time() + LIFE_S) * 1000
    change(client, old.kid, until_ms=round(time.time() * 1000) - 1)
    assert server().verifying(old.kid) is None
    assert [key.kid for key in server().published()] == [new.kid]


def test_a_server_that_runs_believes_a_key_made_elsewhere(server: Callable[[], SigningKeys]) -> None:
    running = server()
    running.signing()

    new = server().rotate(end_old=True)

    assert wait_until(lambda: running.verifying(new.kid), timeout_s=3, what="the new key to be found").kid == new.kid
    assert running.signing().kid == new.kid


def test_kids_that_are_made_up_make_one_read_a_second(client: redis.Redis, server: Callable[[], SigningKeys]) -> None:
    keys = server()
    known = keys.signing().kid
    before, began_s = reads(client), time.monotonic()

    for number in range(2000):
        assert keys.verifying(f"made-up-{number}") is None

    assert reads(client) - before <= time.monotonic() - began_s + 1
    assert keys.verifying(known) is not None


def test_a_known_key_costs_no_read(client: redis.Redis, server: Callable[[], SigningKeys]) -> None:
    keys = server()
    kid = keys.signing().kid
    before = reads(client)

    assert all(keys.verifying(kid) for _ in range(1000))
    assert reads(client) == before


def test_a_leaked_key_ends_at_once_and_a_server_told_to_forget_believes_it_no_more(
        server: Callable[[], SigningKeys]) -> None:
    running = server()
    old = running.signing()
    assert running.verifying(old.kid)

    new = server().rotate(end_old=True)
    running.forget()

    assert running.verifying(old.kid) is None
    assert [key.kid for key in server().published()] == [new.kid]


def test_ended_keys_are_swept_at_the_next_rotation(client: redis.Redis, server: Callable[[], SigningKeys]) -> None:
    first = server().signing()
    second = server().rotate()
    change(client, first.kid, until_ms=1)

    third = server().rotate()

    assert {kid.decode() for kid in client.hkeys("signingkeys")} == {second.kid, third.kid}


def test_keys_of_another_installation_are_refused_with_the_remedy_which_works(
        client: redis.Redis, server: Callable[[], SigningKeys], tmp_path: Path) -> None:
    server().signing()
    strange = SigningKeys(client, load_keyring(tmp_path / "else"), token_life_s=LIFE_S)

    with pytest.raises(SettingsError, match=r"the servers' secrets folders differ(.|\n)*tokens rotate --end-old"):
        strange.signing()
    assert strange.rotate(end_old=True).kid == strange.signing().kid


def test_without_redis_nobody_can_say_whether_a_key_is_known(keyring: Keyring) -> None:
    nowhere = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0))
    with nowhere, pytest.raises(StoreUnavailable):
        SigningKeys(nowhere, keyring, token_life_s=LIFE_S).verifying("kid")
