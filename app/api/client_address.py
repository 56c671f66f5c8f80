"""The address that a request comes from, as far as it can be believed."""

from collections.abc import Mapping
from typing import Any


def client_address(environ: Mapping[str, Any], trusted_proxies: int) -> str:
    """Return the address of a request's sender.

    Behind `trusted_proxies` proxies that is the last but so many of X-Forwarded-For, to which each proxy adds whom it was
    called by; what stands before it came with the request and may be made up. A header with fewer did not come through all
    of them, and without proxies it is not looked at.
    """
    peer = str(environ.get("REMOTE_ADDR") or "")
    told = [part.strip() for part in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
    if not 0 < trusted_proxies <= len(told):
        return peer
    return _without_port(told[-trusted_proxies]) or peer


def _without_port(text: str) -> str:
    """Return the address of `1.2.3.4:80` or `[::1]:80`, as some proxies write it."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
