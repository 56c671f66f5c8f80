"""Turns a request's messages into a prompt: the tokenizer's own chat template, and tokens."""

import re
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from app.errors import EngineFailed
from app.inputs import ModelInput
from app.messages import forms
from workers.engine import TokenLogprob, TopLogprob
from workers.engine.sampling import Logprobs

_THINK = "<think>"


class ReadPrompt(NamedTuple):
    """A prompt's tokens; whether its answer is a chat's, and whether that begins in the middle of the model's thinking."""

    tokens: list[int]
    chat: bool
    thinking: bool


class Prompts:
    """Reads requests for one model. Safe to share between threads."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._lock = threading.Lock()  # a tokenizer cannot be used by two threads at a time

    def read(self, request: ModelInput) -> ReadPrompt:
        """Return the request's prompt. Raises `EngineFailed` for messages that the model's template does not take."""
        if request.prompt is not None:
            return ReadPrompt(self._encode(request.prompt), chat=False, thinking=False)
        text = self._rendered(request)
        tokens = self._encode(text, add_special_tokens=False)
        return ReadPrompt(tokens, chat=True, thinking=text.rstrip().endswith(_THINK))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens of an answer, without special ones."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def logprob(self, token: int, its: Logprobs) -> TokenLogprob:
        """Return a token's log probabilities in OpenAI's form."""
        text = self._named(token)
        return TokenLogprob(token=text, logprob=its.picked, bytes=self._bytes(token, text), top_logprobs=[
            TopLogprob(token=(name := self._named(other)), logprob=logprob, bytes=self._bytes(other, name))
            for other, logprob in its.top])

    def _encode(self, text: str, **options: Any) -> list[int]:
        with self._lock:
            return list(self._tokenizer(text, **options)["input_ids"])

    def _rendered(self, request: ModelInput) -> str:
        if not self._tokenizer.chat_template:
            raise EngineFailed(f"{self._name} has no chat template, so it takes no `messages`; send a `prompt`")
        tools = request.offered
        if tools and "tools" not in str(self._tokenizer.get_chat_template(tools=tools)):
            raise EngineFailed(f"the chat template of {self._name} takes no `tools`")
        failure = ""
        for turns in forms(request.conversation):
            try:
                return str(self._tokenizer.apply_chat_template(turns, tools=tools, add_generation_prompt=True,
                                                               tokenize=False))
            except Exception as exc:  # noqa: BLE001 - a template can raise whatever Python can
                failure = failure or str(exc)
        raise EngineFailed(f"the model's chat template refuses these messages: {failure}")

    def _named(self, token: int) -> str:
        return str(self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _bytes(self, token: int, text: str) -> list[int]:
        """Return a token's bytes. A token that is a part of a character decodes to none; its own name tells its bytes."""
        if "\N{REPLACEMENT CHARACTER}" in text:
            name = str(self._tokenizer.convert_ids_to_tokens(token))
            if fallback := re.fullmatch(r"<0x([0-9A-F]{2})>", name):
                return [int(fallback[1], 16)]
            if all(letter in _BYTES for letter in name):
                return [_BYTES[letter] for letter in name]
        return list(text.encode())


def _byte_letters() -> dict[str, int]:
    """Return which byte each letter of a byte-level vocabulary stands for: a printable one for itself, the others for the
    letters from 256 on, in order (GPT-2, encoder.py, bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


_BYTES = _byte_letters()
