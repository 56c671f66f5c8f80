"""Reasoning is told from content wherever the text is cut into pieces, and no character is lost or said twice."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.engine import Channel
from workers.engine.reasoning import ReasoningSplitter

#: Made of what tags are made of, so that near-tags and tags in the wrong place come up often.
TEXTS = st.lists(st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", "/", "\n", " ", "a", "Grüße"]),
                 max_size=12).map("".join)


def split(pieces: list[str], *, thinking: bool = False) -> tuple[str, str]:
    """Return the reasoning and the content of a text that comes in these pieces."""
    splitter = ReasoningSplitter(thinking=thinking)
    said = [part for piece in pieces for part in splitter.feed(piece)] + splitter.finish()
    assert all(text for _, text in said)
    assert [channel for channel, _ in said] == sorted((channel for channel, _ in said), reverse=True), "reasoning is first"
    reasoning, content = ("".join(text for channel, text in said if channel is one)
                          for one in (Channel.REASONING, Channel.CONTENT))
    return reasoning, content


@pytest.mark.parametrize(("text", "reasoning", "content"), [
    ("<think>hm, 4</think>four", "hm, 4", "four"),
    ("\n <think>\nhm\n</think>\n\nfour\n", "\nhm\n", "four\n"),
    ("<think></think>\n\nfour", "", "four"),
    ("<think>cut off", "cut off", ""),
    ("<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
    ("<think>a<think>b</think>c", "a<think>b", "c"),
    ("no tags", "", "no tags"),
    ("  first <think>late</think>", "", "  first <think>late</think>"),
    ("late</think>", "", "late</think>"),
    ("<thinking>is another tag", "", "<thinking>is another tag"),
    ("<thin", "", "<thin"),
    ("<think>a</thin", "a</thin", ""),
    (" \n", "", " \n"),
    ("", "", ""),
])
def test_a_think_block_at_the_start_is_reasoning_and_the_rest_is_content(text: str, reasoning: str, content: str) -> None:
    assert split([text]) == (reasoning, content)


@pytest.mark.parametrize(("text", "reasoning", "content"), [
    ("hm, 4</think>\n\nfour", "hm, 4", "four"),
    ("\nhm\n</think>four", "\nhm\n", "four"),
    ("<think>\nhm</think>four", "\nhm", "four"),
    ("never ends", "never ends", ""),
    (" <thi", " <thi", ""),
    ("</think>four", "", "four"),
])
def test_where_the_template_opened_the_block_the_answer_begins_inside_it(text: str, reasoning: str, content: str) -> None:
    assert split([text], thinking=True) == (reasoning, content)


@given(text=TEXTS, thinking=st.booleans(), cuts=st.lists(st.integers(0, 60), max_size=8))
@example(text="<think>a</think>\n\nb", thinking=False, cuts=[1, 6, 9, 16, 17, 18])
def test_it_does_not_matter_where_the_text_is_cut(text: str, thinking: bool, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]

    assert split(pieces, thinking=thinking) == split([text], thinking=thinking) == split(list(text), thinking=thinking)


@given(text=TEXTS, thinking=st.booleans())
def test_nothing_but_the_tags_and_the_space_around_them_is_left_out(text: str, thinking: bool) -> None:
    reasoning, content = split([text], thinking=thinking)

    bare = text.lstrip()
    if bare.startswith("<think>"):
        expected, closed, rest = bare.removeprefix("<think>").partition("</think>")
    elif thinking:
        expected, closed, rest = text.partition("</think>")
    else:
        expected, closed, rest = "", "", text
    assert (reasoning, content) == (expected, rest.lstrip("\n") if closed else rest)


@given(text=st.text(), thinking=st.booleans())
def test_what_cannot_be_a_tag_is_said_at_once(text: str, thinking: bool) -> None:
    splitter = ReasoningSplitter(thinking=thinking)
    said = splitter.feed("x") + splitter.feed(text.replace("<", ""))

    assert "".join(piece for _, piece in said) == "x" + text.replace("<", "")


def test_only_what_may_be_a_beginning_of_a_tag_is_held_back() -> None:
    splitter = ReasoningSplitter(thinking=False)

    assert splitter.feed("\n<thi") == []
    assert splitter.feed("nk>hm") == [(Channel.REASONING, "hm")]
    assert splitter.feed(" a < b </") == [(Channel.REASONING, " a < b ")]
    assert splitter.feed("b></think") == [(Channel.REASONING, "</b>")]
    assert splitter.feed(">\n") == []
    assert splitter.feed("\n") == []
    assert splitter.feed("four <") == [(Channel.CONTENT, "four <")]
    assert splitter.finish() == []
