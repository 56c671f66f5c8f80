"""Which URLs may be called as webhooks.

A caller names the URL and we make the call, from inside our network: so it must not lead to what only we can reach
(server-side request forgery). An address in the URL is checked when the job is submitted (`check_url`). What a name
resolves to is checked when the call is made, with `is_refused`, and the call goes to the very address that was checked.
"""

import ipaddress
import re
import socket
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from app.errors import InvalidInput
from app.settings import Settings

LONGEST_URL = 2048
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")  # RFC 3986, 2
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?!.{{254}}){_LABEL}(?:\.{_LABEL})*\.?")
_LOCAL_NAME = re.compile(r"(?:.*\.)?localhost(?:\.localdomain)?\.?|ip6-(?:localhost|loopback)\.?")

#: All that is assigned so far (RFC 4291, 2.4). It leaves out NAT64's 64:ff9b::/96, behind which any IPv4 address may stand.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, settings: Settings) -> None:
    """Refuse a URL that no webhook may have. Raises `InvalidInput`; the message does not repeat the URL, which may hold a
    secret of its own."""
    if len(url) > LONGEST_URL:
        raise _refused(f"has {len(url)} characters; {LONGEST_URL} are the most that are taken")
    if not _CHARACTERS.fullmatch(url):
        raise _refused("holds characters that a URL may not hold; percent-encode them, and write a name in its ASCII form")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise _refused(f"cannot be read: {exc}") from exc
    _check_parts(parts, host, port)
    address = literal(host)
    if address is None and not _NAME.fullmatch(host):
        raise _refused("names no host that could be looked up")
    if settings.webhook_private:
        return
    if _LOCAL_NAME.fullmatch(host):
        raise _refused("names this machine; a webhook must be reachable from the public network")
    if address is not None and is_refused(address):
        raise _refused(f"leads to {address}, which is not an address of the public network")


def _check_parts(parts: SplitResult, host: str, port: int | None) -> None:
    if parts.scheme not in ("http", "https"):
        raise _refused("must begin with https:// or http://")
    if "@" in parts.netloc:
        raise _refused("must not hold a user or a password; deliveries are signed, check their signature instead")
    if not host or "%" in host:
        raise _refused("names no host, or one by percent-encoding or with a zone")
    if port == 0:
        raise _refused("names port 0, on which nothing listens")
    if "#" in parts.geturl():
        raise _refused("must not have a fragment: it would not be sent")


def literal(host: str) -> Address | None:
    """Return the address that a host is written as, None for a name. What resolvers take for an address (`127.1`,
    `0x7f000001`, `2130706433`) is one."""
    bare = host.rstrip(".")
    with suppress(ValueError):
        return ipaddress.ip_address(bare)
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(bare))
    return None


def is_refused(address: Address) -> bool:
    """Tell whether an address is none of the public network's: private, loopback, link-local, multicast, reserved, or one
    behind which such an address may stand."""
    if isinstance(address, ipaddress.IPv4Address):
        return not address.is_global or address.is_multicast or address.is_reserved
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return is_refused(inner)
    return not address.is_global or address not in _GLOBAL_UNICAST


def _refused(why: str) -> InvalidInput:
    return InvalidInput(f"webhook_url {why}", pointer="/webhook_url")
