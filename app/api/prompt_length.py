"""Refuses a prompt over the model's context before it becomes a job.

Most prompts are far shorter, and for them it is one comparison with the request's size. Only what might not fit is filled
into the chat template and tokenized, on a thread beside gevent's loop. Where counting is impossible (no card, no Redis, no
thread free in time, a template that fails), the job goes through: the engine refuses as well, only later.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import gevent
import msgspec
import redis
from gevent import monkey
from gevent.threadpool import ThreadPool

from app import logs, model_card
from app.chat_template import TemplateUnusable
from app.errors import CallerError, InvalidInput, PromptTooLong, TandemError
from app.inputs import ChatInput, Message, ModelInput
from app.model_card import ModelCard
from app.token_count import TokenCounter, TokenizerUnusable, most_tokens

_BELIEVED_S = 5.0  # after this time cards are read again, beside the requests
_FRESH_S = 1.0  # a prompt is refused by cards no older than this
_PATIENCE_S = 0.25  # the longest that a request waits for cards; Redis takes a thousandth of that
_THREADS = 2  # that count at once: what is left of the processors answers short requests
_LONGEST_COUNT_S = 10.0  # waiting for a thread included; the longest request takes one second
_REPEATS = 4  # a template may have a text so many times before a message that is taken for short can be long

Counted = TypeVar("Counted")


@dataclass(frozen=True, slots=True)
class _Served:
    """The models served, as read at `read_s` (monotonic)."""

    cards: tuple[ModelCard, ...]
    read_s: float


class PromptLength:
    """Checks prompts against the models served. Connects to Redis with the first prompt; safe to share."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._served: _Served | None = None
        self._look_again_s = 0.0  # monotonic
        self._reading: threading.Event | None = None  # set when the read under way has ended
        self._lock = threading.Lock()
        self._counters: list[TokenCounter] = []
        self._loading = threading.Lock()
        self._pool: ThreadPool | None = None

    def check(self, decoded: Any, size: int) -> None:
        """Check a job's input; `size` is the bytes of its JSON, which are no fewer than its texts'.

        Raises `PromptTooLong` where no model served has room for it and an answer, and `InvalidInput` where the chat
        template does not take the messages. Of a chat only the new message is looked at: what came before is not known
        here.
        """
        if not isinstance(decoded, ModelInput | ChatInput):
            return
        reading = self._begin_reading() if time.monotonic() >= self._look_again_s else self._reading
        if reading and not (self._served and self._served.cards):
            reading.wait(_PATIENCE_S)
        served = self._served
        if served and not any(surely_fits(card, decoded, size) for card in served.cards):
            self._count(decoded)

    def _count(self, decoded: ModelInput | ChatInput) -> None:
        """Refuse only by what is served at this moment."""
        served = self._served_now()
        if served is None or not served.cards:
            return
        refusals: list[CallerError] = []
        for card in sorted(served.cards, key=lambda card: -card.context):
            refusal = self._refusal(card, decoded)
            if refusal is None:
                return
            refusals.append(refusal)
        raise refusals[0]

    def _refusal(self, card: ModelCard, decoded: ModelInput | ChatInput) -> CallerError | None:
        """Return why this model cannot take the prompt, or None where it can, or it cannot be told."""
        try:
            counter = self._counter(card)
            tokens = self._beside(lambda: _counted(counter, decoded, enough=card.context - 1)) if counter else None
        except InvalidInput as exc:
            return None if isinstance(decoded, ChatInput) else exc  # what came before in the chat may make it right
        except (TemplateUnusable, TokenizerUnusable, redis.exceptions.RedisError, OSError) as exc:
            logs.event("prompt_not_counted", model=card.name, why=f"{type(exc).__name__}: {exc}")
            return None
        return _too_long(card, tokens, decoded) if tokens is not None and tokens >= card.context else None

    def _counter(self, card: ModelCard) -> TokenCounter | None:
        """Return a counter for a card, loaded beside the loop the first time; forget those of models not served any more.
        None where the tokenizer is not there any more. Raises `TimeoutError` too."""
        alike = _alike(card)
        if not self._loading.acquire(timeout=_LONGEST_COUNT_S):
            raise TimeoutError(f"others had loaded tokenizers for {_LONGEST_COUNT_S:g} s")
        try:
            for known in self._counters:
                if known.card == alike:
                    return known
            tokenizer_json = model_card.read_tokenizer(self._client, card)
            if tokenizer_json is None:
                return None
            counter: TokenCounter = self._beside(lambda: TokenCounter(alike, tokenizer_json))
            served = [_alike(each) for each in self._served.cards] if self._served else []
            self._counters = [counter, *(known for known in self._counters if known.card in served)]
            return counter
        finally:
            self._loading.release()

    def _beside(self, work: Callable[[], Counted]) -> Counted:
        """Do work on a thread of its own, where gevent runs this process; else here. Raises `TimeoutError` too."""
        if not monkey.is_module_patched("threading"):
            return work()
        if self._pool is None:
            self._pool = ThreadPool(_THREADS)
        limit = gevent.Timeout(_LONGEST_COUNT_S)
        try:
            with limit:  # `spawn` waits for a free thread
                done = self._pool.spawn(_outcome, work).get()
        except gevent.Timeout as exc:
            if exc is not limit:
                raise
            raise TimeoutError(f"no thread had counted within {_LONGEST_COUNT_S:g} s") from exc
        if isinstance(done, Exception):
            raise done
        result: Counted = done
        return result

    def _served_now(self) -> _Served | None:
        """Return what is served, read within the last second, or None where Redis does not tell in time."""
        if self._served is None or time.monotonic() - self._served.read_s > _FRESH_S:
            self._begin_reading().wait(_PATIENCE_S)
        served = self._served
        return served if served and time.monotonic() - served.read_s <= _FRESH_S else None

    def _begin_reading(self) -> threading.Event:
        """Have the cards read, unless they are being read; the event is set when that has ended."""
        with self._lock:
            done = self._reading
            if done is None:
                done = self._reading = threading.Event()
                self._look_again_s = time.monotonic() + _BELIEVED_S
                threading.Thread(target=self._read_once, args=(done,), name="tandem-model-cards", daemon=True).start()
        return done

    def _read_once(self, done: threading.Event) -> None:
        try:
            read_s = time.monotonic()
            self._served = _Served(model_card.read(self._client), read_s)
        except (redis.exceptions.RedisError, OSError) as exc:  # what was known stays known
            logs.event("model_cards_unreachable", why=f"{type(exc).__name__}: {exc}")
        finally:
            self._reading = None
            done.set()


def surely_fits(card: ModelCard, decoded: ModelInput | ChatInput, size: int) -> bool:
    """Tell by its size alone whether a prompt leaves room for an answer. No means that it has to be counted.

    For a bare prompt this is certain. Messages go through the template, which is taken to repeat no text more than four
    times and to add no more to each message than it adds to a whole short conversation.
    """
    if isinstance(decoded, ModelInput) and decoded.prompt is not None:
        most = most_tokens(card, size)
    elif card.template_bytes is None or (isinstance(decoded, ModelInput) and (decoded.tools or decoded.response_format)):
        return False
    else:
        turns = len(decoded.messages or ()) if isinstance(decoded, ModelInput) else 1
        most = most_tokens(card, _REPEATS * size + (turns + 1) * card.template_bytes)
    return most is not None and most < card.context


def _alike(card: ModelCard) -> ModelCard:
    """Return what cards that count alike have in common: servers with less memory cut the same model's context."""
    return msgspec.structs.replace(card, name="", context=0)


def _counted(counter: TokenCounter, decoded: ModelInput | ChatInput, *, enough: int) -> int | None:
    if isinstance(decoded, ChatInput):
        return counter.of_messages([Message(role="user", content=decoded.message)], enough=enough)
    if decoded.prompt is not None:
        return counter.of_prompt(decoded.prompt, enough=enough)
    return counter.of_messages(decoded.conversation, tools=decoded.offered, enough=enough)


def _too_long(card: ModelCard, tokens: int, decoded: ModelInput | ChatInput) -> PromptTooLong:
    if isinstance(decoded, ChatInput):
        member = "message"
    else:
        member = "messages" if decoded.prompt is None else "prompt"
    return PromptTooLong(f"the prompt has {tokens} tokens; {card.name} takes {card.context} with the answer, so send at "
                         f"most {card.context - 1}", pointer=f"/input/{member}")


def _outcome(work: Callable[[], Counted]) -> Counted | Exception:
    """Return what came of the work: gevent would print what a thread raises."""
    try:
        return work()
    except TandemError as exc:
        return exc
