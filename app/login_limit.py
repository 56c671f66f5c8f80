"""How many failed logins there may be: counted in Redis, in one step, for all gateways together.

    logins:pair:<account>:<address>   failed logins for one account from one address
    logins:address:<address>          failed logins from one address, for whatever account
    logins:account:<account>          failed logins for one account, from addresses that it never logged in from
    logins:known:<account>            ZSET, the addresses that it did log in from, by the time of the last

An attempt is counted before its password is looked at, so that a thousand at once are no way round, and uncounted when it
succeeds. Names are hashed and nobody asks whether there is such an account: unknown ones are limited as any other.

Nobody can lock an owner out: a guesser elsewhere uses up the third count, and that does not hold at the addresses which the
account has logged in from; refused attempts do not count, so each count ends with its window; sessions and API keys go on
regardless.
"""

import hashlib
import ipaddress
import math

import redis

from app.errors import LimitExceeded
from app.lua_script import LuaScript
from app.settings import Settings

_KNOWN_MS = 30 * 86_400_000  # an account knows an address for 30 days after it logged in from it
_MOST_KNOWN = 50  # addresses that an account knows


class LoginLimit:
    """Admits attempts to log in. Raises `StoreUnavailable` when Redis cannot count."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._settings = settings
        self._admit = LuaScript(client, "admit_login")
        self._forgive = LuaScript(client, "forgive_login")

    def admit(self, username: str, address: str) -> None:
        """Count an attempt. Raises `LimitExceeded` when there were too many."""
        limits = self._settings
        wait_ms = self._admit(_keys(username, address), limits.login_attempts, limits.login_address_attempts,
                              limits.login_account_attempts, round(limits.login_window_s * 1000), network(address))
        if wait_ms:
            wait_s = math.ceil(int(wait_ms) / 1000)
            raise LimitExceeded("too many logins failed for this account or from this address; "
                                f"try again in {wait_s} s", retry_after_s=wait_s)

    def unanswered(self, username: str, address: str) -> None:
        """An admitted attempt told its caller nothing about the password: it does not count."""
        self._forgive(_keys(username, address), "unanswered", network(address), _KNOWN_MS, _MOST_KNOWN)

    def succeeded(self, username: str, address: str) -> None:
        """An admitted attempt succeeded: the account's failures are forgotten, and it knows the address."""
        self._forgive(_keys(username, address), "succeeded", network(address), _KNOWN_MS, _MOST_KNOWN)


def network(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or the 64 bits of an IPv6 one that its holder does not choose."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"  # a server on a Unix socket sees none
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False).network_address)


def _keys(username: str, address: str) -> list[str]:
    account, where = hashlib.sha256(username.encode()).hexdigest()[:32], network(address)
    return [f"logins:pair:{account}:{where}", f"logins:address:{where}", f"logins:account:{account}",
            f"logins:known:{account}"]
