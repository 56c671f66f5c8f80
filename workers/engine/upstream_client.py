"""Speaks to one upstream through OpenAI's own client: what may be sent where, and by which name the model is asked for.

Of the environment the client takes nothing (keys of other accounts, headers, proxies), and a redirect, which would send
prompts elsewhere, is an error.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import openai

from app.errors import EngineUnavailable
from app.inputs import ModelInput
from app.settings import Settings
from workers.engine.upstream_failure import FOREIGN, Translation, UpstreamFailure
from workers.engine.upstream_request import arguments

_KEEP_ALIVE_S = 3.0  # below uvicorn's 5 s, behind which vLLM and SGLang stand: they must not be the first to hang up
_NO_KEY = "EMPTY"  # what vLLM's and SGLang's own examples send; the client insists on some

#: The client's loggers; at DEBUG they write whole requests, prompts included.
_LOGGERS = ("openai", "httpx2", "httpcore2")

#: Reads a response, while it is open.
Read = Callable[[Any], Awaitable[None]]


class UpstreamClient:
    """The client for one upstream. All its methods run on one event loop."""

    def __init__(self, settings: Settings, translation: Translation, *, slots: int) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._settings = settings
        self._translation = translation
        self._model = settings.openai_model
        self._client = _client(settings, slots)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def listed(self) -> list[str]:
        """Return the upstream's models. Raises `UpstreamFailure`."""
        try:
            page = await self._client.models.list(timeout=self._settings.openai_connect_s)
            return [model.id for model in page.data]
        except FOREIGN as exc:
            failure = self._translation.of_exception(exc)
            if failure.silent:
                failure = self._translation.silent(away=True)
        except (AttributeError, TypeError, ValueError):  # the client does not check what it is sent
            failure = self._translation.broken("its answer to GET /models cannot be read")
        raise failure

    async def is_away(self) -> bool:
        """Tell an upstream that hangs from one that a request alone is too much for: the second still lists its models."""
        try:
            await self.listed()
        except UpstreamFailure as failure:
            return isinstance(failure.error, EngineUnavailable)
        return False

    async def ask(self, request: ModelInput, read: Read) -> None:
        """Send a request for the model that is wanted, and have the response read. Raises `UpstreamFailure`, `FOREIGN` and
        what `read` raises.

        A model whose name was looked up for an earlier request may be served no more; then its name is looked up again,
        once.
        """
        known, model = self._model, await self._wanted()
        try:
            await self._ask_for(model, request, read)
        except openai.NotFoundError:
            if self._settings.openai_model:
                raise
            if self._model == model:
                self._model = ""
            if known != model or (now := await self._wanted()) == model:
                raise
            await self._ask_for(now, request, read)

    async def _wanted(self) -> str:
        if not self._model:
            listed = await self.listed()
            if not listed:
                raise self._translation.broken("it lists no model")
            self._model = listed[0]
        return self._model

    async def _ask_for(self, model: str, request: ModelInput, read: Read) -> None:
        kind = self._client.completions if request.messages is None else self._client.chat.completions
        create: Any = kind.with_streaming_response.create
        async with create(**arguments(request, model)) as response:
            await read(response)


def _client(settings: Settings, slots: int) -> openai.AsyncOpenAI:
    """Return OpenAI's client, without its retries, and with as many connections as there are requests."""
    timeout = httpx2.Timeout(settings.openai_silence_s, connect=settings.openai_connect_s)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=slots, keepalive_expiry=_KEEP_ALIVE_S)
    client = openai.AsyncOpenAI(
        api_key=settings.openai_key or _NO_KEY, base_url=settings.openai_url, max_retries=0, timeout=timeout,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout, trust_env=False, follow_redirects=False))
    client.organization = client.project = client.admin_api_key = client.webhook_secret = None  # OPENAI_ORG_ID and so on
    client._custom_headers = {}  # OPENAI_CUSTOM_HEADERS; there is no public way
    return client
