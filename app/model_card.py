"""What the world may know of the models served, so that a prompt can be counted where they are not loaded.

The worker that holds a model says so when it has loaded it, and again every few seconds: one entry a server in the hash
`model-cards`, the tokenizer once under its digest in `tokenizer:<sha256>`. An entry that is not renewed counts no more.
A server whose engine cannot tell (openai, scripted) has an entry without a card: then nobody counts, because it might take
what the others cannot.
"""

import hashlib
import zlib
from collections.abc import Sequence

import msgspec
import redis

from app import logs

#: An entry counts this long after the server's last word: three words, so that one lost word does not end it.
CARD_LIFE_S = 60.0

_TOKENIZER_LIFE_S = 600  # it may be read by those who hold a card that has just ended
_CARDS = "model-cards"
_UNKNOWN_MS = 2**53  # the end of an entry that cannot be read


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model, as far as it takes to count a prompt's tokens exactly as its engine does."""

    name: str
    context: int  # tokens that prompt and answer may have together
    tokenizer: str  # SHA-256 of the tokenizer's JSON, as the `tokenizers` library writes it
    chat_template: str | None  # Jinja; None where the model takes no messages
    special_tokens: dict[str, str | list[str]]  # what the template may name: bos_token and the like
    split_special_tokens: bool  # whether text that spells a special token is taken as text
    tokens_per_byte: int | None  # no text has more tokens for each byte of its UTF-8; None where that is not known
    added_tokens: int  # that the tokenizer puts around a bare prompt
    template_bytes: int | None  # the most that the template adds to short conversations; None: it repeats their texts


class _Entry(msgspec.Struct, frozen=True):
    """A server's word: its card, or None, and when it ends (Unix ms, by Redis's clock)."""

    until_ms: int
    card: ModelCard | None


def publish(client: redis.Redis, server: str, card: ModelCard | None, tokenizer_json: bytes = b"") -> None:
    """Say what a server serves, replacing what it said before; to be said again within `CARD_LIFE_S`.

    Raises redis-py's errors.
    """
    if card is not None:
        key = _tokenizer_key(card.tokenizer)
        if not client.expire(key, _TOKENIZER_LIFE_S):
            client.set(key, zlib.compress(tokenizer_json), ex=_TOKENIZER_LIFE_S)
    now_ms = _now_ms(client.time())
    client.hset(_CARDS, server, _said(card, now_ms))
    _tidy(client, now_ms)


def read(client: redis.Redis) -> tuple[ModelCard, ...]:
    """Return the cards of the models served now, each once; none where no server has said anything, or one of them cannot
    tell. Raises redis-py's errors."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hgetall(_CARDS)
        time, texts = pipeline.execute()
    now_ms = _now_ms(time)
    entries = [_entry(server.decode(), text) for server, text in sorted(texts.items())]
    cards = [entry.card for entry in entries if entry.until_ms > now_ms]
    if None in cards:
        return ()
    return tuple(card for at, card in enumerate(cards) if card is not None and card not in cards[:at])


def read_tokenizer(client: redis.Redis, card: ModelCard) -> bytes | None:
    """Return the JSON of a card's tokenizer, or None where it is not there any more. Raises redis-py's errors."""
    kept: bytes | None = client.get(_tokenizer_key(card.tokenizer))
    return zlib.decompress(kept) if kept is not None else None


def digest(tokenizer_json: bytes) -> str:
    """Return the name of a tokenizer's JSON."""
    return hashlib.sha256(tokenizer_json).hexdigest()


def _tidy(client: redis.Redis, now_ms: int) -> None:
    """Forget the servers that have been silent for a life more than a card's. An entry that cannot be read begins its life
    now, as one without a card: if its server is there, it will write another."""
    with client.pipeline() as pipeline:
        pipeline.watch(_CARDS)
        entries = {server: _entry(server.decode(), text) for server, text in pipeline.hgetall(_CARDS).items()}
        pipeline.multi()
        for server, entry in entries.items():
            if entry.until_ms == _UNKNOWN_MS:
                pipeline.hset(_CARDS, server, _said(None, now_ms))
            elif entry.until_ms + CARD_LIFE_S * 1000 < now_ms:
                pipeline.hdel(_CARDS, server)
        try:
            pipeline.execute()
        except redis.exceptions.WatchError:  # a server spoke just now; there is a next time
            return


def _said(card: ModelCard | None, now_ms: int) -> bytes:
    return msgspec.json.encode(_Entry(until_ms=now_ms + round(CARD_LIFE_S * 1000), card=card))


def _entry(server: str, text: bytes) -> _Entry:
    """Return a server's entry; one that cannot be read, as another version of Tandem might leave, counts as one without a
    card for as long as it is there: see `_tidy`."""
    try:
        return msgspec.json.decode(text, type=_Entry)
    except msgspec.DecodeError as exc:
        logs.event("model_card_unreadable", server=server, why=str(exc))
        return _Entry(until_ms=_UNKNOWN_MS, card=None)


def _tokenizer_key(digest: str) -> str:
    return f"tokenizer:{digest}"


def _now_ms(time: Sequence[int]) -> int:
    """Return Redis's time, which it gives as seconds and microseconds."""
    return int(time[0]) * 1000 + int(time[1]) // 1000
