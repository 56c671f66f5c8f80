"""Prompts are counted from a model's card exactly as transformers counts them, and chat templates are kept in bounds."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from app.api.prompt_length import surely_fits
from app.chat_template import ChatTemplate, TemplateUnusable
from app.errors import InvalidInput
from app.inputs import ChatInput, Message, ModelInput
from app.token_count import TokenCounter, TokenizerUnusable
from tests import counted
from tests.counted import Case

CASES = {f"{kind}, {name}": Case(counted.KINDS[kind](), template)
         for name, template in counted.TEMPLATES.items() for kind in ("bytes", "llama 2")}
CASES["unigram, chatml"] = Case(counted.unigram(), counted.TEMPLATES["chatml"])
CASES["words, chatml"] = Case(counted.wordpiece(), counted.TEMPLATES["chatml"])
CASES["demo model"] = Case(*counted.demo())

contents = st.text(min_size=1, max_size=40) | st.lists(st.sampled_from([
    "the sea ", " ", "a", "\N{SNOWMAN}", "<s>", "<|im_end|>", "<think>", "</think>", "\n", "\ufdfa", "{{", "▁"]),
    min_size=1, max_size=20).map("".join)
conversations = st.lists(contents, min_size=1, max_size=4).map(lambda texts: counted.conversation(*texts))


# -- counting


@pytest.mark.parametrize("case", CASES)
@given(messages=conversations)
def test_messages_are_counted_as_transformers_counts_them(case: str, messages: list[Message]) -> None:
    assert CASES[case].counter.of_messages(messages) == counted.transformers_count(CASES[case].tokenizer, messages)


@pytest.mark.parametrize("case", CASES)
@given(text=contents)
def test_a_bare_prompt_is_counted_as_transformers_counts_it(case: str, text: str) -> None:
    assert CASES[case].counter.of_prompt(text) == len(CASES[case].tokenizer(text)["input_ids"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("split", [True, False])
def test_special_tokens_in_a_prompt_are_counted_as_the_tokenizer_takes_them(case: str, *, split: bool) -> None:
    tokenizer = CASES[case].tokenizer
    text = tokenizer.bos_token * 3
    card = msgspec.structs.replace(CASES[case].card, split_special_tokens=split)

    theirs = len(tokenizer(text, split_special_tokens=split)["input_ids"])

    assert TokenCounter(card, CASES[case].text).of_prompt(text) == theirs


@pytest.mark.parametrize("case", CASES)
@given(messages=conversations, context=st.integers(20, 3000))
def test_what_surely_fits_fits(case: str, messages: list[Message], context: int) -> None:
    card = msgspec.structs.replace(CASES[case].card, context=context)
    one = messages[-1].text
    for asked, tokens in (
            (ModelInput(messages=messages), CASES[case].counter.of_messages(messages)),
            (ModelInput(prompt=one), CASES[case].counter.of_prompt(one)),
            (ChatInput(conversation="c", message=one), CASES[case].counter.of_messages(counted.conversation(one)))):
        assert tokens is not None
        assert tokens < context or not surely_fits(card, asked, len(msgspec.json.encode(asked)))


@pytest.mark.parametrize("case", CASES)
@given(messages=conversations, enough=st.integers(0, 200))
def test_a_count_that_is_high_enough_to_matter_is_exact(case: str, messages: list[Message], enough: int) -> None:
    exact = CASES[case].counter.of_messages(messages)
    assert exact is not None

    assert CASES[case].counter.of_messages(messages, enough=enough) in ({exact, 0} if exact <= enough else {exact})


def test_most_prompts_to_the_demo_model_need_no_counting() -> None:
    card = msgspec.structs.replace(CASES["demo model"].card, context=8192)
    messages = counted.conversation("What is the capital of France? " * 20, "Paris. " * 20, "And of Italy?")

    asked = ModelInput(messages=messages)

    assert surely_fits(card, asked, len(msgspec.json.encode(asked)))
    assert surely_fits(card, ModelInput(prompt="the sea " * 1000), 8100)


# -- templates that are not good


HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(("source", "words"), [
    ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "took more than"),
    ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "took more than|characters"),
    ("{% set ns = namespace(a='ab') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}", "characters"),
    ("{{ 'a' * 10**12 }}", "characters"), ("{{ 10**999**99999 }}", "characters"),
    ("{{ messages[0].content * (9**9) }}", "characters"),
    ("{{ '%09000000000000d' % 1 }}", "characters"), ("{{ '%*d' % (9000000000000, 1) }}", "characters"),
    ("{{ '%.9000000000000f' % 1 }}", "characters"), ("{{ '%09000000000000d'|format(1) }}", "characters"),
    ("{{ '%(a)09000000000000d' % {'a': 1} }}", "characters"), ("{{ '{:09000000000000d}'.format(1) }}", "characters"),
    ("{{ '{:{}}'.format(1, 9000000000000) }}", "characters"),
    ("{{ '{a:{b}}'.format_map({'a': 1, 'b': 2**43}) }}", "characters"),
    ("{{ 'x'.ljust(9000000000000) }}", "characters"), ("{{ 'x'.center(9000000000000) }}", "characters"),
    ("{{ 'x'.encode().ljust(9000000000000) }}", "characters"), ("{{ (1).to_bytes(9000000000000, 'big') }}", "characters"),
    ("{{ ''.__class__.__mro__ }}", "SecurityError"), ("{{ messages.append(1) }}", "SecurityError"),
    ("{% set n = namespace(__init__=1) %}", "SecurityError"), ("{{ raise_exception.__globals__.x }}", "SecurityError"),
    ("{{ messages[5].role }}", "UndefinedError"), ("{{ 1 / 0 }}", "ZeroDivisionError"), ("{{ nothing() }}", "Undefined"),
    ("{% include 'a' %}", "TypeError")])
def test_a_template_that_fails_or_takes_too_much_is_unusable(
        source: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.chat_template._MOST_S", 0.5)

    with pytest.raises(TemplateUnusable, match=words):
        ChatTemplate(source).render(HI, {})


@pytest.mark.parametrize("source", ["{% for %}", "{{ a", "{% unknown %}", "{% generation %}"])
def test_a_template_that_is_none_is_unusable(source: str) -> None:
    with pytest.raises(TemplateUnusable, match="cannot be compiled"):
        ChatTemplate(source)


def test_a_template_that_does_not_take_the_messages_says_why() -> None:
    with pytest.raises(InvalidInput, match="does not take these messages: roles must alternate") as caught:
        ChatTemplate(counted.TEMPLATES["strict"]).render([*HI, *HI], {"bos_token": "<s>"})

    assert caught.value.pointer == "/input/messages"


def test_a_template_may_format() -> None:
    source = "{{ '%5.1f|%-3s|%d' % (1.25, 'a', 1700000000) }} {{ '{:>4}{}'.format('b', 17) }} {{ '%s'|format('c') }}"

    assert ChatTemplate(source).render(HI, {}) == "  1.2|a  |1700000000    b17 c"


def test_a_template_has_what_transformers_gives_to_it() -> None:
    source = ("{{ strftime_now('%Y') }} {{ {'b': 'é<', 'a': [1]}|tojson }} {{ dict(a=1)|tojson(indent=1) }} "
              "{{ tools is none }} {{ bos_token }} {% for k in dict.fromkeys('ab') %}{{ k }}{% endfor %}")
    tokenizer = counted.bytewise()
    theirs = tokenizer.apply_chat_template(HI, chat_template=source, tokenize=False, add_generation_prompt=True)

    assert ChatTemplate(source).render(HI, {"bos_token": "<s>"}) == theirs


@pytest.mark.parametrize("model", [b"{}", b"", b"\x00", b'{"version": "2.0"}'])
def test_a_tokenizer_that_cannot_be_read_is_unusable(model: bytes) -> None:
    with pytest.raises(TokenizerUnusable, match="cannot be read"):
        TokenCounter(CASES["demo model"].card, model)


def test_a_tokenizer_that_fails_at_a_text_is_unusable() -> None:
    tokenizer = Tokenizer(WordLevel({"a": 0}, unk_token="<none>"))
    card = msgspec.structs.replace(CASES["demo model"].card, tokens_per_byte=None)

    with pytest.raises(TokenizerUnusable, match="fails at this text"):
        TokenCounter(card, tokenizer.to_str().encode()).of_prompt("b")
