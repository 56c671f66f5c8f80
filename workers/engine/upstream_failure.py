"""What goes wrong with an upstream, an OpenAI-compatible server, in Tandem's words: the one place where the errors of the
client, of HTTP and of the protocol are translated.

    upstream                                  the attempt's error   try the call again   breaker
    no connection; 502, 503 and 504           EngineUnavailable     yes                  a fault
    silence, a broken answer, 408, other 5xx  EngineTransient       yes                  a fault
    429                                       EngineUnavailable     yes, as it says      works
    401, 403                                  EngineFailed          no                   works
    400 and the like: over the context        PromptTooLong         no                   works
    any other 4xx                             EngineFailed          no                   works

No text made here holds the key, whatever the upstream repeats.
"""

import email.utils
import re
import time
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

#: How servers say it that send no code: vLLM, DeepSeek and OpenAI; vLLM's older and newer words; SGLang; Model Studio.
_TOO_LONG = re.compile(r"context[ _]length|maximum model length|max_model_len|context window|longer than the model|"
                       r"range of input length|prompt is too long|input is too long", re.IGNORECASE)


class UpstreamFailure(Exception):
    """A call to the upstream failed.

    `error` is what the attempt ends with, unless the call is made again (`again`), which the upstream may want `wait_s`
    from now. `fault` says whether the upstream itself is at fault, for the breaker.
    """

    def __init__(self, error: TandemError, *, again: bool, fault: bool, wait_s: float | None = None) -> None:
        self.error, self.again, self.fault, self.wait_s = error, again, fault, wait_s
        super().__init__(str(error))


class Translation:
    """Translates the errors of one upstream."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key

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
            return self.broken("silent for too long (the setting openai_silence_s)")
        return self.broken(f"the connection failed ({type(cause).__name__}{f': {cause}' if str(cause) else ''})")

    def broken(self, what: str) -> UpstreamFailure:
        """A call that did not end as the protocol says."""
        return UpstreamFailure(EngineTransient(self._text(what)), again=True, fault=True)

    def _away(self, what: str) -> UpstreamFailure:
        return UpstreamFailure(EngineUnavailable(self._text(what)), again=True, fault=True)

    def for_good(self, what: str) -> UpstreamFailure:
        """A call that would end in the same way again."""
        return UpstreamFailure(EngineFailed(self._text(what)), again=False, fault=False)

    def of_status(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> UpstreamFailure:
        """Translate an HTTP status with its body, or an error in mid-stream that names one."""
        code, message = _said(body)
        text = self._text(f"it answered {status}: {message}")
        if status == 429:
            return UpstreamFailure(EngineUnavailable(text), again=True, fault=False, wait_s=retry_after(headers or {}))
        if status in _AWAY:
            return UpstreamFailure(EngineUnavailable(text), again=True, fault=True, wait_s=retry_after(headers or {}))
        if status == 408 or status >= 500:
            return UpstreamFailure(EngineTransient(text), again=True, fault=True, wait_s=retry_after(headers or {}))
        if code == "context_length_exceeded" or _TOO_LONG.search(message):
            return UpstreamFailure(PromptTooLong(text), again=False, fault=False)
        return UpstreamFailure(EngineFailed(text + _hint(status)), again=False, fault=False)

    def of_event(self, error: object) -> UpstreamFailure:
        """Translate an error that came as a piece of the stream. vLLM and SGLang name the status in it."""
        code, message = _said(error)
        if code.isdigit() and 400 <= int(code) < 600:
            return self.of_status(int(code), error)
        if code == "context_length_exceeded" or _TOO_LONG.search(message):
            return self.of_status(400, error)
        return self.broken(f"the stream ended with an error: {message}")

    def _text(self, what: str) -> str:
        text = f"the model server at {self._url}: {what}"
        return text.replace(self._key, "***") if self._key else text


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as seconds or as a date (RFC 9110, 10.2.3); None where it is
    missing or neither."""
    asked = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", asked):
        return float(asked)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return None


def _said(body: object) -> tuple[str, str]:
    """Return the code ("" for none) and the message of an error's body. OpenAI's form is {"message", "code"}, that of
    FastAPI {"detail"}; either may stand in {"error"}."""
    if isinstance(body, dict):
        members: dict[str, Any] = body
        if members.get("error"):
            return _said(members["error"])
        message = members.get("message") or members.get("detail") or body
        code = members.get("code")
        return str(code) if code is not None else "", _short(message)
    return "", _short(body)


def _short(message: object) -> str:
    text = message if isinstance(message, str) else msgspec.json.encode(message, enc_hook=str).decode()
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."


def _hint(status: int) -> str:
    if status in (401, 403):
        return "; check the setting openai_key (TANDEM_OPENAI_KEY)"
    if status == 404:
        return "; check the settings openai_url (it ends in /v1 on most servers) and openai_model"
    return ""
