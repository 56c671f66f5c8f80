"""Writes the card of a loaded tokenizer, by which the gateway counts a prompt's tokens without the model."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from app import logs
from app.chat_template import TemplateUnusable
from app.errors import InvalidInput
from app.inputs import Message
from app.model_card import ModelCard, digest
from app.token_count import TokenCounter

#: The most bytes of UTF-8 that a normal form makes of one: Unicode Standard Annex 15, Table "Maximum Expansion Factors".
_NORMAL_FORMS = {"NFC": 3, "NFD": 3, "NFKC": 11, "NFKD": 11}

#: Steps that only cut, drop or mark.
_NEVER_LONGER = {"StripAccents", "Strip", "Nmt", "Split", "Punctuation", "Digits", "Whitespace", "WhitespaceSplit",
                 "BertPreTokenizer", "CharDelimiterSplit", "UnicodeScripts", "FixedLength"}
_MODELS = {"BPE", "Unigram", "WordPiece", "WordLevel"}

_TEXTS = ("Is", "the sky is blue, the sea is wide; 12 + 30 = 42", "Grüße, 世界! \N{SNOWMAN}\n\t", " a  b ",
          "<think>x</think>y")
_ROLES: Sequence[Sequence[str]] = (("user",), ("system", "user"), ("user", "assistant", "user"),
                                   ("system", "user", "assistant", "user"))


def card_of(tokenizer: Any, name: str, context: int) -> tuple[ModelCard, bytes] | None:
    """Return the card of a transformers tokenizer and its JSON, or None where it cannot be counted with elsewhere: it is
    not of the `tokenizers` library, has parts in Python or chance in it, or does not count the same once written down."""
    try:
        card, text = _written(tokenizer, name, context)
        why = _difference(tokenizer, card, text)
    except Exception as exc:  # noqa: BLE001 - the library raises nothing narrower, and a model is served without a card, too
        why = f"{type(exc).__name__}: {exc}"
    if why is None:
        return card, text
    logs.event("model_without_card", model=name, why=why)
    return None


def _written(tokenizer: Any, name: str, context: int) -> tuple[ModelCard, bytes]:
    """Return the card and the tokenizer's JSON. Raises whatever a tokenizer may."""
    text = str(tokenizer.backend_tokenizer.to_str()).encode()
    spec = json.loads(text)
    if spec["model"].get("dropout"):
        raise ValueError("it leaves merges out by chance")
    card = ModelCard(
        name=name, context=context, tokenizer=digest(text), chat_template=_template(tokenizer),
        special_tokens=_special_tokens(tokenizer), split_special_tokens=bool(tokenizer.split_special_tokens),
        tokens_per_byte=tokens_per_byte(spec), template_bytes=_template_bytes(tokenizer),
        added_tokens=tokenizer.backend_tokenizer.num_special_tokens_to_add(is_pair=False))
    return card, text


def tokens_per_byte(spec: dict[str, Any]) -> int | None:
    """Return a number of tokens that a text cannot have more of for each byte of its UTF-8, for a tokenizer's JSON; None
    where one of its steps is not known here.

    A token stands for at least one character of what the steps before the model leave, or with byte fallback for one
    byte; so it is the most that the steps make of one byte. An added token in the text stands for a byte, too.
    """
    model = spec["model"]
    if model.get("type") not in _MODELS:
        return None
    by_bytes = bool(model.get("byte_fallback"))
    steps = [*_steps(spec.get("normalizer"), "normalizers"), *_steps(spec.get("pre_tokenizer"), "pretokenizers")]
    factors = [_growth(step, by_bytes=by_bytes) for step in steps]
    return math.prod(factor for factor in factors if factor is not None) if None not in factors else None


def _steps(step: dict[str, Any] | None, parts: str) -> Iterable[dict[str, Any]]:
    if step is None:
        return
    if step["type"] == "Sequence":
        for part in step[parts]:
            yield from _steps(part, parts)
    else:
        yield step


def _growth(step: dict[str, Any], *, by_bytes: bool) -> int | None:
    """Return the most bytes (characters, of ByteLevel's) that a step makes of one. What it puts before each piece counts
    once for every byte, as a piece has at least one."""
    kind = step["type"]
    if kind in _NEVER_LONGER:
        return 1
    if kind in _NORMAL_FORMS:
        return _NORMAL_FORMS[kind]
    if kind == "ByteLevel":  # a character of up to two bytes for each byte
        return (2 if by_bytes else 1) * (2 if step.get("add_prefix_space") else 1)
    if kind == "Metaspace":
        return 2 * len(step["replacement"].encode())
    if kind == "Prepend":
        return 1 + len(step["prepend"].encode())
    if kind == "Replace" and step["pattern"].get("String"):
        return max(1, math.ceil(len(step["content"].encode()) / len(step["pattern"]["String"].encode())))
    if kind == "Lowercase":  # from two bytes to three, such as U+0130 and U+023A
        return 2
    return None


def _template(tokenizer: Any) -> str | None:
    """Return the template that `apply_chat_template` takes without tools; a tokenizer may have several."""
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:
        return None


def _special_tokens(tokenizer: Any) -> dict[str, str | list[str]]:
    return {name: [str(one) for one in token] if isinstance(token, list | tuple) else str(token)
            for name, token in tokenizer.special_tokens_map.items()}


def _conversations(text: str) -> Iterable[list[Message]]:
    for roles in _ROLES:
        yield [Message(role=role, content=f"{text} {at}") for at, role in enumerate(roles)]  # type: ignore[arg-type]


def _applied(tokenizer: Any, messages: list[Message], *, tokenize: bool) -> Any:
    """Return what transformers makes of the messages, or None where the template does not take them."""
    said = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    except Exception:  # noqa: BLE001 - a template can raise whatever Python can
        return None
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]) if tokenize else text


def _template_bytes(tokenizer: Any) -> int | None:
    """Return the most bytes that the template adds to the texts of some short conversations; None where it has one of the
    texts more than once, or takes none of them."""
    added: list[int] = []
    for messages in _conversations("\N{SNOWMAN}text\N{SNOWMAN}"):
        text = _applied(tokenizer, messages, tokenize=False)
        if text is None:
            continue
        if any(text.count(message.text) > 1 for message in messages):
            return None
        added.append(len(text.encode()) - sum(len(message.text.encode()) for message in messages))
    return max(0, *added) if added else None


def _difference(tokenizer: Any, card: ModelCard, text: bytes) -> str | None:
    """Say where counting by the card differs from counting with the tokenizer, on some texts; None where nowhere."""
    counter = TokenCounter(card, text)
    for sample in _TEXTS:
        theirs, ours = len(tokenizer(sample)["input_ids"]), counter.of_prompt(sample)
        if theirs != ours:
            return f"{sample!r} has {theirs} tokens, by the card {ours}"
        for messages in _conversations(sample) if card.chat_template is not None else ():
            wanted, found = _applied(tokenizer, messages, tokenize=True), _counted(counter, messages)
            if wanted != found:
                return f"{[message.role for message in messages]} have {wanted} tokens, by the card {found}"
    return None


def _counted(counter: TokenCounter, messages: list[Message]) -> int | None:
    """Return what the card makes of the messages, or None where the template does not take them."""
    try:
        return counter.of_messages(messages)
    except (InvalidInput, TemplateUnusable):
        return None
