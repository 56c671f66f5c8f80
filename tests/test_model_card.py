"""The card of a model: what it says of a tokenizer, and how workers publish it and gateways read it."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import NormalizedString, PreTokenizedString, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from app import model_card
from app.model_card import ModelCard, publish, read, read_tokenizer
from app.settings import Settings
from app.store import open_redis
from app.token_count import TokenCounter, most_tokens
from ops import embedded_redis
from ops.waiting import wait_until
from tests import counted
from workers.card_renewal import CardRenewal
from workers.engine.card import card_of
from workers.engine.scripted import ScriptedEngine

TOKENIZERS = {name: make() for name, make in counted.KINDS.items()}
JSON = b'{"version": "1.0"}'
CARD = ModelCard(name="tiny", context=96, tokenizer=model_card.digest(JSON), chat_template="{{ bos_token }}",
                 special_tokens={"bos_token": "<s>", "additional_special_tokens": ["<a>"]}, split_special_tokens=False,
                 tokens_per_byte=1, added_tokens=1, template_bytes=30)


class Carded(ScriptedEngine):
    """The scripted engine, with a card."""

    def __init__(self, card: ModelCard = CARD) -> None:
        self._card = card

    def card(self) -> tuple[ModelCard, bytes]:
        return self._card, JSON


# -- published and read


def test_a_published_card_is_read_with_its_tokenizer(client: redis.Redis) -> None:
    publish(client, "server-1", CARD, JSON)

    assert read(client) == (CARD,)
    assert read_tokenizer(client, CARD) == JSON


def test_servers_of_the_same_model_have_one_card_and_of_several_models_several(client: redis.Redis) -> None:
    other = msgspec.structs.replace(CARD, context=64)
    for server, card in (("server-1", CARD), ("server-2", CARD), ("server-3", other)):
        publish(client, server, card, JSON)

    assert read(client) == (CARD, other)


def test_a_card_published_anew_replaces_the_one_before(client: redis.Redis) -> None:
    publish(client, "server-1", CARD, JSON)
    changed = msgspec.structs.replace(CARD, name="other", tokenizer=model_card.digest(b"{}"))
    publish(client, "server-1", changed, b"{}")

    assert read(client) == (changed,)
    assert read_tokenizer(client, changed) == b"{}"


def test_nothing_is_told_while_one_server_has_no_card(client: redis.Redis) -> None:
    publish(client, "server-1", CARD, JSON)
    publish(client, "server-2", None)

    assert read(client) == ()


def test_a_card_that_is_not_renewed_runs_out(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(client, "server-1", CARD, JSON)
    monkeypatch.setattr(model_card, "CARD_LIFE_S", -0.001)
    publish(client, "server-2", msgspec.structs.replace(CARD, context=1), JSON)
    publish(client, "server-3", None)

    assert read(client) == (CARD,)
    assert client.ttl(f"tokenizer:{CARD.tokenizer}") > 60


def test_a_card_that_cannot_be_read_counts_as_none(client: redis.Redis) -> None:
    publish(client, "server-1", CARD, JSON)
    client.hset("model-cards", "server-2", b'{"version": 2}')

    assert read(client) == ()


def test_servers_that_are_gone_are_forgotten_when_another_speaks(client: redis.Redis) -> None:
    publish(client, "server-3", None)
    client.hset("model-cards", "server-2", b'{"until_ms": 1, "card": null}')

    publish(client, "server-1", CARD, JSON)

    assert set(client.hkeys("model-cards")) == {b"server-1", b"server-3"}


def test_an_unreadable_card_counts_for_one_life_after_another_server_saw_it(
        client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    client.hset("model-cards", "server-2", b'{"version": 2}')
    with monkeypatch.context() as patch:
        patch.setattr(model_card, "CARD_LIFE_S", 0.05)
        publish(client, "server-1", CARD, JSON)
    publish(client, "server-1", CARD, JSON)

    wait_until(lambda: read(client) == (CARD,), timeout_s=10, what="the unreadable card to run out")


def test_a_tokenizer_that_is_gone_is_published_again(client: redis.Redis) -> None:
    publish(client, "server-1", CARD, JSON)
    client.delete(f"tokenizer:{CARD.tokenizer}")
    assert read_tokenizer(client, CARD) is None

    publish(client, "server-1", CARD, JSON)

    assert read_tokenizer(client, CARD) == JSON


def test_a_worker_publishes_its_engines_card_and_an_engine_without_one_takes_it_away(client: redis.Redis) -> None:
    for engine, told in ((Carded(), (CARD,)), (ScriptedEngine(), ())):
        renewal = CardRenewal(client, "server-1", engine)
        renewal.start()
        wait_until(lambda told=told: client.hexists("model-cards", "server-1") and read(client) == told, timeout_s=10,
                   what="the card to be published")
        renewal.stop()


def test_a_worker_that_starts_before_redis_publishes_when_redis_is_there(tmp_path: Path) -> None:
    port = embedded_redis.free_port()
    client = open_redis(Settings(redis_url=f"redis://127.0.0.1:{port}/0", data_dir=tmp_path))
    renewal = CardRenewal(client, "server-1", Carded())
    renewal.start()
    server = embedded_redis.start(tmp_path, port=port, fsync="no")
    try:
        wait_until(lambda: read(client) == (CARD,), timeout_s=20, what="the card to be published")
        renewal.stop()
    finally:
        client.close()
        server.stop()
    assert "tandem-card" not in {thread.name for thread in threading.enumerate()}


# -- written from a tokenizer


def test_a_tokenizer_without_a_template_has_a_card_for_bare_prompts() -> None:
    card, text = card_of(counted.bytewise(), "tiny", 96) or pytest.fail("no card")

    assert (card.name, card.context, card.chat_template, card.template_bytes) == ("tiny", 96, None, None)
    assert (card.added_tokens, card.tokens_per_byte) == (2, 1)
    assert TokenCounter(card, text).of_messages(counted.conversation("hello")) is None


def test_a_template_that_has_its_messages_twice_is_never_guessed_at() -> None:
    tokenizer = counted.bytewise()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"

    card, _ = card_of(tokenizer, "twice", 96) or pytest.fail("no card")

    assert card.template_bytes is None


class _Python:
    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(lambda _, piece: [piece])

    def normalize(self, text: NormalizedString) -> None:
        text.lowercase()


def _in_python() -> Any:
    tokenizer = counted.bytewise()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(_Python())
    return tokenizer


@pytest.mark.parametrize("tokenizer", [
    object(), _in_python(), counted.whole(Tokenizer(models.BPE(dropout=0.1))),
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="<none>")))],
    ids=["slow", "parts in Python", "chance", "failing"])
def test_a_tokenizer_that_cannot_be_counted_with_elsewhere_has_no_card(tokenizer: Any) -> None:
    assert card_of(tokenizer, "odd", 96) is None


def test_a_tokenizer_that_counts_otherwise_than_it_is_written_down_has_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = counted.bytewise()
    monkeypatch.setattr(type(tokenizer), "_encode_plus", lambda *_, **__: {"input_ids": [0] * 1000})

    assert card_of(tokenizer, "odd", 96) is None


@pytest.mark.parametrize("normalizer", [
    normalizers.BertNormalizer(), normalizers.Replace(Regex("a"), "bbbb")], ids=["bert", "regex"])
def test_a_step_that_is_not_known_leaves_no_bound(normalizer: Any) -> None:
    card, _ = card_of(counted.bytewise(normalizer=normalizer), "odd", 96) or pytest.fail("no card")

    assert card.tokens_per_byte is None
    assert most_tokens(card, 1) is None


texts = st.text(max_size=60) | st.lists(st.sampled_from([
    "the ", " ", "a", "\N{SNOWMAN}", "\ufdfa", "\u0390", "\U0001d160", "\u0130", "\u023a", "<s>", "<|im_end|>", "<think>",
    "▁", "\n", "\x00"]), max_size=40).map("".join)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=texts)
def test_no_text_has_more_tokens_than_its_bytes_allow(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    card, _ = CARDS[kind]

    most = most_tokens(card, len(text.encode()))

    assert most is not None
    assert len(tokenizer(text)["input_ids"]) <= most


CARDS = {name: card_of(tokenizer, name, 96) or pytest.fail("no card") for name, tokenizer in TOKENIZERS.items()}
