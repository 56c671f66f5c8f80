"""Counts a prompt's tokens from a model's card, exactly as the engine that holds the model does.

Without the model, and without transformers: the `tokenizers` library reads the same JSON. It is imported when the first
counter is made.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.chat_template import ChatTemplate, TemplateUnusable
from app.errors import TandemError
from app.inputs import Message
from app.messages import forms
from app.model_card import ModelCard

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenizerUnusable(TandemError):
    """The tokenizer cannot be read, or fails at a text."""

    code = "tokenizer-unusable"
    title = "Tokenizer unusable"


class TokenCounter:
    """Counts for one card. Safe to share between threads, and leaves the interpreter to others while it tokenizes."""

    def __init__(self, card: ModelCard, tokenizer_json: bytes) -> None:
        """Load the tokenizer: 0.4 s for 128,000 tokens. Raises `TokenizerUnusable` or `TemplateUnusable`."""
        self.card = card
        self._tokenizer = _load(tokenizer_json)
        self._tokenizer.encode_special_tokens = card.split_special_tokens
        self._template = ChatTemplate(card.chat_template) if card.chat_template is not None else None

    def of_prompt(self, prompt: str, *, enough: int = 0) -> int:
        """Return how many tokens a bare prompt has; `enough` as in `of_messages`. Raises `TokenizerUnusable`."""
        return self._count(prompt, with_added=True, enough=enough)

    def of_messages(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None,
                    enough: int = 0) -> int | None:
        """Return how many tokens these messages and tools have in the chat template, or None where the model has none.

        Up to `enough` the exact count does not matter: where it is sure to be no higher, 0 is returned without
        tokenizing. Raises `InvalidInput` where the template does not take the messages, else `TemplateUnusable` or
        `TokenizerUnusable`.
        """
        if self._template is None:
            return None
        return self._count(self._rendered(self._template, messages, tools), with_added=False, enough=enough)

    def _rendered(self, template: ChatTemplate, messages: Sequence[Message],
                  tools: Sequence[Mapping[str, Any]] | None) -> str:
        *others, last = forms(messages)
        for said in others:
            try:
                return template.render(said, self.card.special_tokens, tools=tools)
            except TemplateUnusable:
                continue
        return template.render(last, self.card.special_tokens, tools=tools)

    def _count(self, text: str, *, with_added: bool, enough: int) -> int:
        most = most_tokens(self.card, len(text.encode()))
        if most is not None and most <= enough:
            return 0
        try:  # a batch of one: `encode` would hold the interpreter's lock all the time
            (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=with_added)
        except Exception as exc:  # the library raises nothing narrower
            raise TokenizerUnusable(f"the tokenizer fails at this text: {exc}") from exc
        return len(encoding)


def most_tokens(card: ModelCard, text_bytes: int) -> int | None:
    """Return a number of tokens that no text of so many bytes of UTF-8 exceeds, or None where the card knows none."""
    if card.tokens_per_byte is None:
        return None
    return card.tokens_per_byte * text_bytes + card.added_tokens


def _load(tokenizer_json: bytes) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    except Exception as exc:  # the library raises nothing narrower
        raise TokenizerUnusable(f"the tokenizer cannot be read: {exc}") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
