"""Posts a message to a hook, once: nothing of the environment plays a part (no proxy), no redirect is followed.

A hook is an operator's own setting, so it may be at a private address, other than a caller's webhook. Promises to answer in
bounded time, and to raise nothing that a receiver could bring about.
"""

import asyncio
import ssl
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec

from app.alert_hooks import AlertHook, Form
from app.retry_after import retry_after_s
from routing.alerting.message import Message, request
from routing.alerting.outcome import Outcome

_TIMEOUT_S = 10.0  # for an answer, from the beginning
_CONNECT_S = 5.0
_MOST_READ = 65_536  # bytes of an answer
_TOO_EARLY = {408, 425, 429}  # of 4xx, those that say "later"

#: DingTalk's errcodes that say "later"; others say that the token, the keyword or the signature is wrong.
_DINGTALK_BUSY = {-1}
_DINGTALK_TOO_OFTEN = {130101, 410100}
_DINGTALK_PAUSE_S = 600.0  # for so long it takes nothing after it was sent too much

#: Not httpx2's client, which writes each URL, and so the token in it, to the log.
_Transport = httpx2.AsyncHTTPTransport


class Post:
    """Posts messages. `trust` says which certificates are good; those that the system trusts, by default."""

    def __init__(self, trust: ssl.SSLContext | None = None, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._trust = trust or httpx2.create_ssl_context(trust_env=False)
        self._timeout_s = timeout_s

    def __call__(self, hook: AlertHook, message: Message, *, now_ms: int) -> Outcome:
        """Make one attempt and return how it went."""
        return asyncio.run(self._attempt(hook, message, now_ms))

    async def _attempt(self, hook: AlertHook, message: Message, now_ms: int) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(hook, message, now_ms)
        except TimeoutError:
            return Outcome(error=f"no answer within {self._timeout_s:g} s")
        except (httpx2.TransportError, httpx2.StreamError, httpx2.InvalidURL, OSError, UnicodeError) as exc:
            return Outcome(error=f"{type(exc).__name__}: {exc}".rstrip(": "))

    async def _post(self, hook: AlertHook, message: Message, now_ms: int) -> Outcome:
        url, headers, body = request(hook, message, now_ms=now_ms)
        async with _Transport(verify=self._trust, trust_env=False) as transport:
            response = await transport.handle_async_request(httpx2.Request(
                "POST", url, headers=headers, content=body,
                extensions={"timeout": httpx2.Timeout(None, connect=_CONNECT_S).as_dict()}))
            try:
                if not 200 <= response.status_code < 300:
                    return _refusal(response)
                return _dingtalk(await _beginning(response)) if hook.form is Form.DINGTALK else Outcome()
            finally:
                await response.aclose()


async def _beginning(response: httpx2.Response) -> bytes:
    read = b""
    async for chunk in response.aiter_bytes():
        read += chunk
        if len(read) >= _MOST_READ:
            break
    return read


def _refusal(response: httpx2.Response) -> Outcome:
    status = response.status_code
    error = f"answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")
    return Outcome(error=error, refused=300 <= status < 500 and status not in _TOO_EARLY,
                   retry_after_s=retry_after_s(response.headers.get("retry-after", ""), datetime.now(UTC)))


class _DingtalkAnswer(msgspec.Struct):
    errcode: int
    errmsg: Any = ""


def _dingtalk(body: bytes) -> Outcome:
    """Return what DingTalk's answer says: its errors come with status 200."""
    try:
        answer = msgspec.json.decode(body, type=_DingtalkAnswer)
    except msgspec.MsgspecError:
        return Outcome(error="the answer is not DingTalk's; is the URL a robot's?", refused=True)
    if answer.errcode == 0:
        return Outcome()
    too_often = answer.errcode in _DINGTALK_TOO_OFTEN
    return Outcome(error=f"answered errcode {answer.errcode}: {answer.errmsg}",
                   refused=not too_often and answer.errcode not in _DINGTALK_BUSY,
                   retry_after_s=_DINGTALK_PAUSE_S if too_often else None)
