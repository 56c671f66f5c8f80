"""The keys that sign access tokens: one signs, and those before it are believed until the last token that they signed has
expired.

    signingkeys   HASH  kid -> JSON: the private key under the keyring's seal, and when it was made, signs from, ends

They lie in Redis, so a new one reaches all servers; nobody reads them there without the seal. Checking a token needs no
Redis: each process remembers the keys, and reads them anew every few seconds and when a token names one that it does not
know, the latter once a second at most, however many tokens are made up. A new key lies there for `ANNOUNCED_S` before it
signs, so by then every process knows it.

A kid is the key's thumbprint (RFC 7638). Raises `StoreUnavailable` when Redis cannot be read, and `SettingsError` when the
keys were sealed with another keyring.
"""

import base64
import hashlib
import threading
import time
from dataclasses import dataclass

import msgspec
import redis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.errors import SettingsError
from app.keyring import Keyring
from app.ledger.scripts import unavailable

ANNOUNCED_S = 5.0  # a new key is there this long before it signs
_READ_ANEW_S = 5.0  # how long the keys are believed
_UNKNOWN_S = 1.0  # the least time between two reads for the sake of unknown kids
_SLACK_S = 60.0  # servers' clocks may differ by so much

_WHERE = "signingkeys"


class _Record(msgspec.Struct, frozen=True):
    """A key as it lies in Redis. Times are Unix ms; without `until_ms` it has no successor yet."""

    sealed: str
    made_ms: int
    signs_from_ms: int
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, unsealed. `until_ms` (Unix ms) is when it is no longer believed; None: it has no successor yet."""

    kid: str
    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    made_ms: int
    signs_from_ms: int
    until_ms: int | None

    def jwk(self) -> dict[str, str]:
        """The public key as a JSON Web Key (RFC 8037)."""
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(_raw(self.public)), "kid": self.kid, "use": "sig",
                "alg": "EdDSA"}


class SigningKeys:
    """The keys of this installation. Safe to share between threads."""

    def __init__(self, client: redis.Redis, keyring: Keyring, *, token_life_s: float) -> None:
        self._client = client
        self._keyring = keyring
        self._life_ms = round((token_life_s + _SLACK_S) * 1000)
        self._keys: dict[str, SigningKey] = {}
        self._unsealed: dict[str, Ed25519PrivateKey] = {}
        self._read_s = self._forgotten_s = float("-inf")  # when the keys were last read, and forgotten (monotonic)
        self._lock = threading.Lock()

    def signing(self) -> SigningKey:
        """Return the key to sign with, as of this moment."""
        return self._signing(self._known(0.0))

    def verifying(self, kid: str) -> SigningKey | None:
        """Return the key of that kid if it is believed."""
        found = self._known(_READ_ANEW_S).get(kid) or self._known(_UNKNOWN_S).get(kid)
        return found if found and _is_believed(found) else None

    def published(self) -> list[SigningKey]:
        """Return every key that is believed, or soon will be; as of a second ago at most."""
        keys = [key for key in self._known(_UNKNOWN_S).values() if _is_believed(key)]
        return sorted(keys, key=lambda key: (key.signs_from_ms, key.kid))

    def forget(self) -> None:
        """Read the keys anew before the next one is believed."""
        self._forgotten_s = time.monotonic()

    def rotate(self, *, end_old: bool = False, announced_s: float = ANNOUNCED_S) -> SigningKey:
        """Make a new key, which signs `announced_s` later; the others are believed until all that they signed has expired.

        `end_old`, for a key that leaked, ends them now: their tokens are refused, and callers refresh them.
        """
        now_ms = _now_ms()
        kid, record = self._new(Ed25519PrivateKey.generate(),  # alone, it signs by whatever clock
                                signs_from_ms=0 if end_old else now_ms + round(announced_s * 1000))
        old = self._records() or self._first()
        until_ms = record.signs_from_ms + self._life_ms
        lasting = {} if end_old else {
            name: msgspec.json.encode(msgspec.structs.replace(each, until_ms=each.until_ms or until_ms))
            for name, each in old.items() if not each.until_ms or each.until_ms > now_ms}
        try:
            with self._client.pipeline() as transaction:
                if ended := old.keys() - lasting.keys():
                    transaction.hdel(_WHERE, *ended)
                transaction.hset(_WHERE, mapping={**lasting, kid: msgspec.json.encode(record)})
                if end_old:
                    transaction.publish("revoked", "everything")
                transaction.execute()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        return self._known(0.0)[kid]

    def _signing(self, keys: dict[str, SigningKey]) -> SigningKey:
        now_ms = _now_ms()
        ready = [key for key in keys.values() if key.signs_from_ms <= now_ms and _is_believed(key)]
        if not ready:
            raise SettingsError(["no key in Redis signs access tokens now; `celery -A workers tokens rotate --end-old` "
                                 "makes one"])
        return max(ready, key=lambda key: (key.signs_from_ms, key.kid))

    def _known(self, oldest_s: float) -> dict[str, SigningKey]:
        """Return the keys as of `oldest_s` ago at most."""
        asked_s = time.monotonic()
        if asked_s - self._read_s < oldest_s and self._read_s > self._forgotten_s:
            return self._keys
        with self._lock:
            if self._read_s < asked_s:  # else another thread has read them while this one waited
                began_s = time.monotonic()
                self._keys = self._unseal(self._records() or self._first())
                self._read_s = began_s
            return self._keys

    def _records(self) -> dict[str, _Record]:
        try:
            found = self._client.hgetall(_WHERE)
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        return {kid.decode(): msgspec.json.decode(text, type=_Record) for kid, text in found.items()}

    def _first(self) -> dict[str, _Record]:
        """Put the first key into Redis; where two servers do so at once there are two, which is none too many."""
        kid, record = self._new(self._keyring.first_key or Ed25519PrivateKey.generate(), signs_from_ms=0)
        try:
            self._client.hset(_WHERE, kid, msgspec.json.encode(record))
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        return self._records()

    def _new(self, private: Ed25519PrivateKey, *, signs_from_ms: int) -> tuple[str, _Record]:
        raw = private.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw,
                                    serialization.NoEncryption())
        return _thumbprint(private.public_key()), _Record(self._keyring.seal(raw), _now_ms(), signs_from_ms)

    def _unseal(self, records: dict[str, _Record]) -> dict[str, SigningKey]:
        try:
            private = {record.sealed: self._unsealed.get(record.sealed)
                       or Ed25519PrivateKey.from_private_bytes(self._keyring.unseal(record.sealed))
                       for record in records.values()}
        except SettingsError as exc:
            raise SettingsError([*exc.faults, "if the folder that sealed the signing keys is lost, "
                                 "`celery -A workers tokens rotate --end-old` makes a new one"]) from exc
        self._unsealed = private
        return {kid: SigningKey(kid, private[record.sealed], private[record.sealed].public_key(), record.made_ms,
                                record.signs_from_ms, record.until_ms) for kid, record in records.items()}


def _is_believed(key: SigningKey) -> bool:
    return key.until_ms is None or _now_ms() < key.until_ms


def _thumbprint(public: Ed25519PublicKey) -> str:
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64url(_raw(public))}"}}'
    return _base64url(hashlib.sha256(members.encode()).digest())


def _raw(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
