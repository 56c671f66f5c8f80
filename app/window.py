"""Fits a conversation into the window of the model that will answer it, counted as that model's engine counts.

Any model served may get the turn, so the smallest window decides. Where nothing can be counted (no card, as with an
upstream API, no tokenizer, a template that fails) the whole conversation is sent; the engine refuses what it cannot take.
"""

import threading
from collections.abc import Sequence

import redis

from app import logs, model_card
from app.chat_template import TemplateUnusable
from app.context import Context, fitting
from app.errors import InvalidInput
from app.messages import Message
from app.model_card import ModelCard
from app.token_count import TokenCounter, TokenizerUnusable


class Window:
    """Knows the models served by their cards. Safe to share between threads; loads a tokenizer once."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._counter: TokenCounter | None = None
        self._loading = threading.Lock()

    def fitting(self, history: Sequence[Message], asked: Message, *, max_tokens: int, system: str | None = None) -> Context:
        """Return what the model is shown, so that an answer of `max_tokens` still fits; an answer is kept half of the
        window at most, or a generous `max_tokens` would leave a small model no history. Raises redis-py's errors."""
        everything = fitting(history, asked, system=system, room=None, count=len)
        cards = model_card.read(self._client)
        if not cards or not history:
            return everything
        card = min(cards, key=lambda card: card.context)
        try:
            counter = self._counter_for(card)
            if counter is None or card.chat_template is None:
                return everything
            room = card.context - min(max_tokens, card.context // 2)
            return fitting(history, asked, system=system, room=room,
                           count=lambda messages: counter.of_messages(messages, enough=room) or 0)
        except (TemplateUnusable, TokenizerUnusable, InvalidInput) as exc:
            logs.event("conversation_not_counted", model=card.name, why=f"{type(exc).__name__}: {exc}")
            return everything

    def _counter_for(self, card: ModelCard) -> TokenCounter | None:
        with self._loading:
            if self._counter is None or self._counter.card != card:
                tokenizer_json = model_card.read_tokenizer(self._client, card)
                if tokenizer_json is None:
                    return None
                self._counter = TokenCounter(card, tokenizer_json)
            return self._counter
