"""A conversation is fitted into the smallest window served, counted by that model's own tokenizer and template."""

import msgspec
import redis
from tokenizers import Tokenizer, models, pre_tokenizers

from app import model_card
from app.messages import Message
from app.model_card import ModelCard
from app.window import Window

_words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
_words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
JSON = _words.to_str().encode()
CARD = ModelCard(name="words", context=12, tokenizer=model_card.digest(JSON), special_tokens={}, split_special_tokens=False,
                 chat_template="{% for m in messages %}{{ m['content'] }} {% endfor %}", tokens_per_byte=None,
                 added_tokens=0, template_bytes=None)
HISTORY = [Message(role=role, content=f"{turn} {turn}") for turn in "abc" for role in ("user", "assistant")]
ASKED = Message(role="user", content="d d")


def test_the_oldest_turns_go_until_prompt_and_answer_fit_the_smallest_window(client: redis.Redis) -> None:
    model_card.publish(client, "server-1", CARD, JSON)
    model_card.publish(client, "server-2", msgspec.structs.replace(CARD, context=1000), JSON)

    context = Window(client).fitting(HISTORY, ASKED, max_tokens=2)

    assert (context.messages, context.dropped_turns) == ([*HISTORY[2:], ASKED], 1)


def test_a_generous_max_tokens_leaves_half_of_the_window_to_the_conversation(client: redis.Redis) -> None:
    model_card.publish(client, "server-1", CARD, JSON)

    assert Window(client).fitting(HISTORY, ASKED, max_tokens=32_768).dropped_turns == 2


def test_without_a_card_the_whole_conversation_is_sent(client: redis.Redis) -> None:
    context = Window(client).fitting(HISTORY, ASKED, max_tokens=2)

    assert (context.messages, context.dropped_turns) == ([*HISTORY, ASKED], 0)
