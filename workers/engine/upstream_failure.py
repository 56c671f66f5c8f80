"""What goes wrong with an upstream, an OpenAI-compatible server, in Tandem's words: the one place where the errors of the
client, of HTTP and of the protocol are translated.

    upstream                                  the attempt's error   try the call again   breaker
    no connection; 502, 503 and 504           EngineUnavailable     yes                  a fault
    silence, and no list of models either     EngineUnavailable     yes                  a fault
    silence, a broken answer, 408, other 5xx  EngineTransient       yes                  a fault
    429                                       EngineUnavailable     yes, as it says      works
    429 for want of money                     EngineFailed          no                   works
    401, 403                                  EngineFailed          no                   works
    400 and the like: over the context        PromptTooLong         no                   works
    any other 3xx or 4xx                      EngineFailed          no                   works

Every tenant may read the texts made here: none holds the key or the upstream's address, whatever the upstream repeats.
"""

import email.utils
import re
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import httpx2
import msgspec
import openai

from app.errors import EngineFailed, EngineTransient, EngineUnavailable, PromptTooLong, TandemError

#: What the client raises when a call fails, and the response while it is read.
FOREIGN = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError)

_AWAY = (502, 503, 504)  # statuses of a server that is not there, or its proxy's word for that
_LONGEST_MESSAGE = 500  # characters of what an upstream says; a proxy may answer with a whole page
_LONGEST_REST_S = 600.0  # an upstream is believed so far when it asks for patience; then it is asked again
_OUT_OF_MONEY = "insufficient_quota"  # OpenAI's, as code or type

#: Model Studio says "insufficient_quota" of its limit on tokens a minute too, with these words (its error-code page).
_PASSING_QUOTA = re.compile(r"(?<!free )allocated quota exceeded", re.IGNORECASE)

#: How servers say it that send no code: vLLM, DeepSeek and OpenAI; vLLM's older and newer words; SGLang; Model Studio.
_TOO_LONG = re.compile(r"context[ _]length|maximum model length|max_model_len|context window|longer than the model|"
                       r"range of input length|prompt is too long|input is too long", re.IGNORECASE)


class UpstreamFailure(Exception):
    """A call to the upstream failed.

    `error` is what the attempt ends with, unless the call is made again (`again`), which the upstream may want `wait_s`
    from now. `fault` says whether the upstream itself is at fault, for the breaker; `silent`, that it said nothing for too
    long.
    """

    def __init__(self, error: TandemError, *, again: bool, fault: bool, wait_s: float | None = None,
                 silent: bool = False) -> None:
        self.error, self.again, self.fault, self.wait_s, self.silent = error, again, fault, wait_s, silent
        super().__init__(str(error))


class Translation:
    """Translates the errors of one upstream."""

    def __init__(self, url: str, key: str) -> None:
        self._address = _address(url)
        self._keys = [form for form in (msgspec.json.encode(key).decode()[1:-1], key) if form]  # as in JSON, and bare

    def of_exception(self, exc: Exception) -> UpstreamFailure:
        """Translate one of `FOREIGN`."""
        if isinstance(exc, openai.APIStatusError):
            return self.of_status(exc.status_code, exc.body if exc.body is not None else exc.message, exc.response.headers)
        cause = exc.__cause__ if isinstance(exc, openai.APIConnectionError) and exc.__cause__ else exc
        if isinstance(cause, httpx2.ConnectTimeout):
            return self._away("no connection in time (the setting openai_connect_s)")
        if isinstance(cause, httpx2.ConnectError):
            return self._away(f"no connection ({cause})")
        if isinstance(cause, httpx2.TimeoutException):
            return self.silent()
        return self.broken(f"the connection failed ({type(cause).__name__}{f': {cause}' if str(cause) else ''})")

    def broken(self, what: str) -> UpstreamFailure:
        """A call that did not end as the protocol says."""
        return UpstreamFailure(EngineTransient(self._text(what)), again=True, fault=True)

    def silent(self, *, away: bool = False) -> UpstreamFailure:
        """A call that nothing came of in time; `away` where the upstream says nothing to anybody."""
        error = (EngineUnavailable(self._text("silent, also when asked for its models")) if away else
                 EngineTransient(self._text("silent for too long (the setting openai_silence_s)")))
        return UpstreamFailure(error, again=True, fault=True, silent=True)

    def _away(self, what: str) -> UpstreamFailure:
        return UpstreamFailure(EngineUnavailable(self._text(what)), again=True, fault=True)

    def for_good(self, what: str) -> UpstreamFailure:
        """A call that would end in the same way again."""
        return UpstreamFailure(EngineFailed(self._text(what)), again=False, fault=False)

    def of_status(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> UpstreamFailure:
        """Translate an HTTP status with its body, or an error in mid-stream that names one."""
        codes, message = _said(body)
        text = self._text(f"it answered {status}: {self._short(message)}")
        wait_s = retry_after(headers or {})
        if status == 429 and _OUT_OF_MONEY in codes and not _PASSING_QUOTA.search(message):
            return UpstreamFailure(EngineFailed(text), again=False, fault=False)
        if status == 429:
            return UpstreamFailure(EngineUnavailable(text), again=True, fault=False, wait_s=wait_s)
        if status in _AWAY:
            return UpstreamFailure(EngineUnavailable(text), again=True, fault=True, wait_s=wait_s)
        if status == 408 or status >= 500:
            return UpstreamFailure(EngineTransient(text), again=True, fault=True, wait_s=wait_s)
        if _is_too_long(codes, message):
            return UpstreamFailure(PromptTooLong(text), again=False, fault=False)
        return UpstreamFailure(EngineFailed(text + _hint(status)), again=False, fault=False)

    def of_event(self, error: object) -> UpstreamFailure:
        """Translate an error that came as a piece of the stream. vLLM and SGLang name the status in it."""
        codes, message = _said(error)
        status = next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), None)
        if status is None and _is_too_long(codes, message):
            status = 400
        if status is not None:
            return self.of_status(status, error)
        return self.broken(f"the stream ended with an error: {self._short(message)}")

    def _short(self, message: str) -> str:
        """Return what the upstream said, cut: masked before, or a part of the key would stay at the end."""
        text = self._masked(message)
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."

    def _text(self, what: str) -> str:
        return self._masked(f"the model server: {what}")

    def _masked(self, text: str) -> str:
        for key in self._keys:
            text = text.replace(key, "***")
        return self._address.sub("(its address)", text)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as seconds or as a date (RFC 9110, 10.2.3), ten minutes at
    most; None where it is missing or neither."""
    asked = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", asked):
        return min(float(asked), _LONGEST_REST_S)
    try:
        at_s = email.utils.parsedate_to_datetime(asked).timestamp()
    except (ValueError, OverflowError, OSError, TypeError, IndexError):  # the library's and the clock's, for odd dates
        return None
    return min(max(0.0, at_s - time.time()), _LONGEST_REST_S)


def _address(url: str) -> re.Pattern[str]:
    """Return what finds the upstream's address in a text: the URL, or the host with or without its port."""
    parts = urllib.parse.urlsplit(url)
    names = sorted({re.escape(name) for name in (url, parts.netloc, parts.hostname) if name}, key=len, reverse=True)
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(names) or '(?!)'})(?![\w-])", re.IGNORECASE)


def _is_too_long(codes: set[str], message: str) -> bool:
    return "context_length_exceeded" in codes or _TOO_LONG.search(message) is not None


def _said(body: object) -> tuple[set[str], str]:
    """Return the codes (`code` and `type`, those that are there) and the message of an error's body, on one line. OpenAI's
    form is {"message", "code", "type"}, that of FastAPI {"detail"}; either may stand in {"error"}."""
    if not isinstance(body, dict):
        return set(), _line(body)
    members: dict[str, Any] = body
    if members.get("error"):
        return _said(members["error"])
    codes = {str(members[name]) for name in ("code", "type") if members.get(name) is not None}
    return codes, _line(members.get("message") or members.get("detail") or body)


def _line(message: object) -> str:
    text = message if isinstance(message, str) else msgspec.json.encode(message, enc_hook=str).decode()
    return " ".join(text.split())


def _hint(status: int) -> str:
    if 300 <= status < 400:
        return "; redirects are not followed, so check the setting openai_url"
    if status in (401, 403):
        return "; check the setting openai_key (TANDEM_OPENAI_KEY)"
    if status == 404:
        return "; check the settings openai_url (it ends in /v1 on most servers) and openai_model"
    return ""
