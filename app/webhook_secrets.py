"""The secrets that sign webhooks, a tenant's own: https://github.com/standard-webhooks/standard-webhooks, symmetric.

    webhook-secrets:<tenant>   ZSET   sealed secret -> until when it signs (Unix ms; the present one without end)

A secret is made on first use. After a rotation the one before it signs too, for a day, so that a receiver can change over.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence

import redis

from app.keyring import Keyring
from app.ledger.scripts import unavailable

PREFIX = "whsec_"
_BYTES = 32  # 24 to 64 by the standard
_OVERLAP_MS = 86_400_000
_MOST = 5  # secrets that sign at a time, however often a tenant rotates: the newest

#: KEYS: the tenant's; ARGV: a fresh secret, sealed. Returns the present one; where there is none, the fresh one becomes it.
_PRESENT = """
local present = redis.call('ZRANGEBYSCORE', KEYS[1], '+inf', '+inf')[1]
if present then return present end
redis.call('ZADD', KEYS[1], '+inf', ARGV[1])
return ARGV[1]
"""

#: KEYS: the tenant's; ARGV: a fresh secret, sealed, how long the one before signs (ms), how many are kept.
_ROTATE = """
local t = redis.call('TIME')
local until_ms = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2]
for _, before in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '+inf', '+inf')) do
  if before ~= ARGV[1] then redis.call('ZADD', KEYS[1], until_ms, before) end
end
redis.call('ZADD', KEYS[1], '+inf', ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
"""


class WebhookSecrets:
    """Reads, makes and rotates secrets. Raises `StoreUnavailable`, and `SettingsError` where another keyring sealed one."""

    def __init__(self, client: redis.Redis, keyring: Keyring) -> None:
        self._client = client
        self._keyring = keyring

    def present(self, tenant: str) -> str:
        """Return the tenant's secret, `whsec_...`, making it on first use."""
        _, sealed = self._fresh()
        try:
            return self._open(self._client.eval(_PRESENT, 1, _key(tenant), sealed))
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def rotate(self, tenant: str) -> str:
        """Make another secret the tenant's, and return it."""
        fresh, sealed = self._fresh()
        try:
            self._client.eval(_ROTATE, 1, _key(tenant), sealed, _OVERLAP_MS, _MOST)
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        return fresh

    def signing(self, tenant: str) -> list[str]:
        """Return the secrets that sign now, the present one first."""
        try:
            present = self.present(tenant)
            live = self._client.zrangebyscore(_key(tenant), round(time.time() * 1000), "+inf")
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        earlier = (self._open(sealed) for sealed in reversed(live))
        return [present, *(secret for secret in earlier if secret != present)]

    def _fresh(self) -> tuple[str, str]:
        secret = PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()
        return secret, self._keyring.seal(secret.encode())

    def _open(self, sealed: bytes) -> str:
        return self._keyring.unseal(sealed.decode()).decode()


def signature(signing: Sequence[str], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature for each secret."""
    content = f"{webhook_id}.{timestamp_s}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(_bytes(secret), content, hashlib.sha256)).decode()
                    for secret in signing)


def _bytes(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX))


def _key(tenant: str) -> str:
    return f"webhook-secrets:{tenant}"
