"""Carries one webhook to its receiver: looks the name up, checks the addresses, and posts to the very one that was checked.

Nothing of the environment plays a part (no proxy), no redirect is followed, no connection or cookie is kept for the next,
and of the answer no more than its head counts. TLS checks the certificate against the name in the URL, not the address.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx2

from app.retry_after import retry_after_s
from app.settings import Settings
from app.webhooks import Address, is_refused, literal
from workers.delivery_schedule import Outcome

_CONNECT_S = 5.0  # for an address, so that there is time for the next one that the name has
_MOST_ADDRESSES = 3  # of a name that are tried
_MOST_READ = 4096  # bytes of an answer's body, so that its sender is not cut off in mid-word
_READ_S = 1.0
_LOOKING_UP = 128  # names at a time; twice a worker's slots, as looking one up may outlast the attempt that asked for it

#: Looks a host and port up; returns the addresses.
Resolve = Callable[[str, int], list[str]]


def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the system knows them. Raises `OSError`."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Courier:
    """Carries deliveries. All but its making runs on one event loop."""

    def __init__(self, settings: Settings, *, resolve: Resolve = resolved, trust: ssl.SSLContext | None = None) -> None:
        """`trust` says which certificates are good; those that the system trusts, by default."""
        for name in ("httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)  # at INFO they write each URL
        self._settings = settings
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(_LOOKING_UP, thread_name_prefix="tandem-hooks-lookup")
        # connections are pooled by address, and the next receiver there may be one of another name
        unpooled = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._transport = httpx2.AsyncHTTPTransport(
            verify=trust or httpx2.create_ssl_context(trust_env=False), trust_env=False, limits=unpooled)

    async def close(self) -> None:
        """Close what is open."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._transport.aclose()

    async def carry(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Make one attempt and return how it went. Raises nothing that the receiver could bring about."""
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_s):
                return await self._carry(httpx2.URL(url), headers, body)
        except TimeoutError:
            return Outcome(error=f"no answer within {self._settings.webhook_timeout_s:g} s")
        except (httpx2.TransportError, httpx2.InvalidURL, OSError, UnicodeError) as exc:
            return Outcome(error=f"{type(exc).__name__}: {exc}".rstrip(": "))

    async def _carry(self, url: httpx2.URL, headers: Mapping[str, str], body: bytes) -> Outcome:
        addresses = await self._addresses(url)
        if not self._settings.webhook_private and any(map(is_refused, addresses)):
            # which address it is, is not the caller's to know
            return Outcome(error=f"{url.host} leads to an address that is none of the public network")
        tried = addresses[:_MOST_ADDRESSES]
        for number, address in enumerate(tried, 1):
            try:
                return await self._post(url, address, headers, body)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if number == len(tried):
                    raise
        return Outcome(error=f"{url.host} has no address")

    async def _addresses(self, url: httpx2.URL) -> list[Address]:
        if (address := literal(url.host)) is not None:
            return [address]
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._resolve, url.host, port)
        return [ipaddress.ip_address(text) for text in dict.fromkeys(found)]

    async def _post(self, url: httpx2.URL, address: Address, headers: Mapping[str, str], body: bytes) -> Outcome:
        request = httpx2.Request(
            "POST", url.copy_with(host=str(address)), headers={"Host": url.netloc.decode("ascii"), **headers}, content=body,
            extensions={"timeout": httpx2.Timeout(None, connect=_CONNECT_S).as_dict(),
                        "sni_hostname": url.host.rstrip(".")})
        response = await self._transport.handle_async_request(request)
        try:
            await _read_some(response)
        finally:
            await response.aclose()
        if 200 <= response.status_code < 300:
            return Outcome(status=response.status_code)
        return Outcome(status=response.status_code, error=f"answered {response.status_code}",
                       retry_after_s=retry_after_s(response.headers.get("retry-after", ""), datetime.now(UTC)))


async def _read_some(response: httpx2.Response) -> None:
    """Read the beginning of an answer's body; how that goes is of no matter."""
    read = 0
    with contextlib.suppress(TimeoutError, httpx2.TransportError, httpx2.StreamError):
        async with asyncio.timeout(_READ_S):
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read >= _MOST_READ:
                    return
