"""Reads an answer that an OpenAI-compatible server streams: server-sent events, each a piece of the answer as JSON.

The pieces are decoded here and not by the client, whose objects cost some 180 us a token, against 10 (measured): one worker
may stream several thousand tokens a second. What does not fit the types below is a broken answer.

Of a chat's answer, all reasoning comes before all content: whitespace before any content waits until the content comes, and
what the upstream calls reasoning after that is content too.
"""

from typing import Literal

import msgspec

from app.inputs import ModelInput
from app.tool_calls import written
from workers.engine import Channel, Generation, TokenLogprob, TopLogprob, Usage
from workers.engine.reasoning import ReasoningSplitter, Said
from workers.engine.upstream_failure import Translation

_DONE = b"[DONE]"

#: What `finish_reason` may say that means a whole answer. Some servers have a word of their own for the end of turn.
_WHOLE: dict[str, Literal["stop", "length"]] = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "length": "length",
    "tool_calls": "stop"}

#: And what means that another call would end in the same way. Any other reason (DeepSeek's "insufficient_system_resource",
#: vLLM's "abort") is taken for a breakdown of the upstream: whether the answer is whole is not known.
_FOR_GOOD = {
    "content_filter": "its content filter withheld the answer",
    "function_call": "the model called a function, and it was offered none"}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    """A piece of a call; those of one call have one index. The first has the id and the name."""

    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    reasoning_content: str | None = None  # DeepSeek, SGLang, Model Studio, older vLLM
    reasoning: str | None = None  # vLLM; with the same text where both are there


class _TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _TokenLogprob(_TopLogprob):
    top_logprobs: list[_TopLogprob] = []


class _Logprobs(msgspec.Struct):
    """`content` of /chat/completions; the others of /completions, where tokens have no bytes of their own."""

    content: list[_TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _PromptDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek


class _Piece(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: msgspec.Raw = msgspec.Raw()


class Events:
    """Cuts a stream's bytes into the data of its events (WHATWG HTML, 9.2.6); lines end with a newline, as all servers'
    do, with or without a carriage return. An event that is cut off is left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, block: bytes) -> list[bytes]:
        """Take the next bytes; return the data of the events that are complete now."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        complete = []
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not name and not value and self._data:
                complete.append(b"\n".join(self._data))
                self._data = []
        return complete


class UpstreamAnswer:
    """One answer, as it comes. `finished` is true once the upstream said why it ended, `told` once there was any text."""

    def __init__(self, request: ModelInput, model: str, translation: Translation) -> None:
        self._request = request
        self._model = model
        self._translation = translation
        self._splitter = ReasoningSplitter(thinking=False) if request.messages is not None else None
        self._said: dict[Channel, list[str]] = {Channel.REASONING: [], Channel.CONTENT: []}
        self._reasons = request.messages is not None  # may still reason: there was no content but whitespace
        self._held = ""  # that whitespace
        self._logprobs: list[TokenLogprob] = []
        self._usage: _Usage | None = None
        self._pieces = 0
        self._reason: str | None = None
        self._calls: dict[int, _ToolCall] = {}

    @property
    def finished(self) -> bool:
        """Whether only the usage is to come."""
        return self._reason is not None

    @property
    def told(self) -> bool:
        """Whether any text was returned to be told."""
        return any(self._said.values())

    def take(self, data: bytes) -> list[Said]:
        """Take an event's data; return the text that is certain now. Raises `UpstreamFailure`."""
        if data.startswith(_DONE):
            return []
        try:
            piece = msgspec.json.decode(data, type=_Piece)
            error = msgspec.json.decode(piece.error) if piece.error else None
        except msgspec.DecodeError as exc:
            raise self._translation.broken(f"a piece of the stream cannot be read ({exc})") from exc
        if error:
            raise self._translation.of_event(error)
        self._model = piece.model or self._model
        self._usage = piece.usage or self._usage
        return self._keep([said for choice in (piece.choices or [])[:1] for said in self._choice(choice)])

    def end(self) -> list[Said]:
        """The stream has ended: return the last text. Raises `UpstreamFailure` where the answer is not whole."""
        if self._reason is None:
            raise self._translation.broken("the stream ended before the answer did")
        if self._reason in _FOR_GOOD:
            raise self._translation.for_good(_FOR_GOOD[self._reason])
        if self._reason not in _WHOLE:
            raise self._translation.broken(f"the answer ended for '{self._reason}'")
        if self._reason == "tool_calls" and not self._request.tools:
            raise self._translation.for_good("the model called a tool, and it was offered none")
        said = self._keep([*(self._splitter.finish() if self._splitter else []), *self._called()])
        if self._held:
            self._reasons = False
            said += self._keep([(Channel.CONTENT, "")])
        return said

    def generation(self) -> Generation:
        """Return the whole answer."""
        return Generation(
            text="".join(self._said[Channel.CONTENT]), reasoning="".join(self._said[Channel.REASONING]) or None,
            finish_reason=_WHOLE[self._reason or "stop"], usage=self.usage(), model=self._model,
            logprobs=self._logprobs if self._request.logprobs else None)

    @property
    def counted(self) -> bool:
        """Whether the upstream said how many tokens there were."""
        return self._usage is not None

    def usage(self) -> Usage:
        """Return the upstream's count; where it gave none, what there were at least: a token for each word of the prompt
        and for each piece of the answer."""
        if (told := self._usage) is None:
            return Usage(prompt_tokens=_words(self._request), completion_tokens=self._pieces)
        details = told.prompt_tokens_details
        cached = details.cached_tokens if details and details.cached_tokens else told.prompt_cache_hit_tokens
        return Usage(prompt_tokens=told.prompt_tokens, completion_tokens=told.completion_tokens, cached_tokens=cached or 0)

    def _choice(self, choice: _Choice) -> list[Said]:
        self._reason = choice.finish_reason or self._reason
        self._logprobs += _logprobs(choice.logprobs, self._request.top_logprobs)
        delta = choice.delta or _Delta()
        said: list[Said] = []
        if thought := delta.reasoning_content or delta.reasoning:
            said += self._splitter.finish() if self._splitter else []
            self._splitter = None  # the upstream tells reasoning from content
            said.append((Channel.REASONING, thought))
        if text := delta.content or choice.text:
            said += self._splitter.feed(text) if self._splitter else [(Channel.CONTENT, text)]
        for call in delta.tool_calls or ():
            self._call(call)
        self._pieces += bool(thought or text or delta.tool_calls)
        return said

    def _call(self, piece: _ToolCall) -> None:
        call = self._calls.setdefault(piece.index, _ToolCall(piece.index, None, _Function("", "")))
        function = call.function or _Function("", "")
        call.id = call.id or piece.id
        if piece.function:
            function.name = (function.name or "") + (piece.function.name or "")
            function.arguments = (function.arguments or "") + (piece.function.arguments or "")

    def _called(self) -> list[Said]:
        """Return the calls of tools as text, in the form that models write themselves (`app.tool_calls`)."""
        return [(Channel.CONTENT, written(function.name, function.arguments or "", call_id=call.id))
                for _, call in sorted(self._calls.items()) if (function := call.function) and function.name]

    def _keep(self, said: list[Said]) -> list[Said]:
        kept = self._ordered(said)
        for channel, text in kept:
            self._said[channel].append(text)
        return kept

    def _ordered(self, said: list[Said]) -> list[Said]:
        """Return what can be told of this, so that reasoning comes before content."""
        ordered: list[Said] = []
        for channel, text in said:
            if channel is Channel.REASONING and self._reasons:
                ordered.append((channel, text))
                continue
            whole, self._held = self._held + text, ""
            if self._reasons and whole.isspace():
                self._held = whole
            else:
                self._reasons = False
                ordered.append((Channel.CONTENT, whole))
        return ordered


def _logprobs(given: _Logprobs | None, most: int) -> list[TokenLogprob]:
    """Return log-probabilities of either form in Tandem's, with at most so many others a token."""
    if given is None:
        return []
    if given.content is not None:
        return [TokenLogprob(token=one.token, logprob=one.logprob, bytes=_bytes(one),
                             top_logprobs=[TopLogprob(token=top.token, logprob=top.logprob, bytes=_bytes(top))
                                           for top in one.top_logprobs[:most]])
                for one in given.content]
    tokens, chosen = given.tokens or [], given.token_logprobs or []
    tops = given.top_logprobs or [None] * len(tokens)
    return [TokenLogprob(token=token, logprob=logprob or 0.0, bytes=list(token.encode()), top_logprobs=_best(top, most))
            for token, logprob, top in zip(tokens, chosen, tops, strict=False)]


def _best(tops: dict[str, float] | None, most: int) -> list[TopLogprob]:
    best = sorted((tops or {}).items(), key=lambda item: -item[1])[:most]
    return [TopLogprob(token=token, logprob=logprob, bytes=list(token.encode())) for token, logprob in best]


def _bytes(one: _TopLogprob) -> list[int]:
    return one.bytes if one.bytes is not None else list(one.token.encode())


def _words(request: ModelInput) -> int:
    texts = [request.prompt or ""] if request.messages is None else [turn.text for turn in request.messages]
    return sum(len(text.split()) for text in texts)
