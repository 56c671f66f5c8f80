"""The openai engine asks as the protocol says, and tells and returns what the upstream answers."""

import itertools
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import EngineFailed
from app.inputs import Message, ModelInput
from tests.upstream import (
    KEY,
    WELL,
    Listener,
    ask,
    chat,
    delta,
    engine_for,
    refuses,
    run_on,
    streams,
    text,
    upstream,
    usage,
)
from workers.engine import Channel, TokenLogprob, TopLogprob, Usage
from workers.engine.upstream_answer import Events
from workers.engine.upstream_request import arguments

ALL_SAMPLING: dict[str, Any] = {
    "temperature": 0.0, "top_p": 0.9, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 0, "stop": ["a", "b"]}
EXTRA: dict[str, Any] = {"top_k": 5, "min_p": 0.0, "repetition_penalty": 1.1, "stop_token_ids": [1, 2]}


def sent(request: ModelInput) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of what is sent for a request."""
    with upstream(WELL) as server, engine_for(server.url) as engine:
        engine.generate(request, run_on)
    path, headers, body = server.asked[-1]
    assert headers["authorization"] == f"Bearer {KEY}"
    return path, body


def test_messages_go_to_chat_completions_with_all_that_the_caller_gave() -> None:
    messages = [Message(role="system", content="be brief"), Message(role="user", content="well?")]

    path, body = sent(ModelInput(messages=messages, max_tokens=9, logprobs=True, top_logprobs=3, **ALL_SAMPLING, **EXTRA))

    assert path == "/v1/chat/completions"
    assert body == {"model": "wanted", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 9,
                    "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "well?"}],
                    "logprobs": True, "top_logprobs": 3, **ALL_SAMPLING, **EXTRA}


def test_a_prompt_goes_to_completions_where_logprobs_is_a_number() -> None:
    path, body = sent(ModelInput(prompt="well", logprobs=True, top_logprobs=3, **ALL_SAMPLING, **EXTRA))

    assert path == "/v1/completions"
    assert body == {"model": "wanted", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 256,
                    "prompt": "well", "logprobs": 3, **ALL_SAMPLING, **EXTRA}


@given(names=st.sets(st.sampled_from(sorted(ALL_SAMPLING | EXTRA))), prompt=st.booleans())
def test_what_the_caller_left_out_is_left_to_the_upstream(names: set[str], prompt: bool) -> None:
    given_ = {name: value for name, value in (ALL_SAMPLING | EXTRA).items() if name in names}
    asked = arguments(ModelInput(prompt="well", **given_) if prompt else chat(**given_), "m")

    extra = asked.pop("extra_body", {})
    assert set(extra) == names & set(EXTRA)
    assert set(asked) - names == {"model", "stream", "stream_options", "max_tokens", "prompt" if prompt else "messages"}
    assert (asked | extra) | given_ == asked | extra


def test_pieces_are_told_as_they_come_and_make_up_the_answer() -> None:
    told = Listener()
    answer = ask(streams(delta(role="assistant", content=""), delta(content="Grüße, "), delta(content="Welt\u2028!"),
                         delta("length"), usage(7, 3, prompt_tokens_details={"cached_tokens": 4})), told=told)

    assert told.told == [(Channel.CONTENT, "Grüße, "), (Channel.CONTENT, "Welt\u2028!")]
    assert (answer.text, answer.reasoning, answer.finish_reason, answer.model) == (
        "Grüße, Welt\u2028!", None, "length", "served")
    assert answer.usage == Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=4)
    assert answer.logprobs is None


def test_an_answer_to_a_prompt_is_told_as_it_is_tags_and_all() -> None:
    told = Listener()
    answer = ask(streams(text("<think>"), text("hm</think>"), text("", "stop"), usage(1, 2)),
                 request=ModelInput(prompt="x"), told=told)

    assert (answer.text, answer.reasoning, told.heard(Channel.CONTENT)) == (
        "<think>hm</think>", None, "<think>hm</think>")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_that_the_upstream_tells_apart_is_kept_apart(name: str) -> None:
    told = Listener()
    answer = ask(streams(delta(**{name: "hm, "}, content=None), delta(**{name: "four"}), delta(content="<think>4"),
                         delta("stop"), usage(1, 5)), told=told)

    assert (answer.reasoning, answer.text) == ("hm, four", "<think>4")
    assert told.told == [(Channel.REASONING, "hm, "), (Channel.REASONING, "four"), (Channel.CONTENT, "<think>4")]


@pytest.mark.parametrize("early", ["\n", " \n", "\n\n"])
def test_whitespace_before_reasoning_waits_for_the_content(early: str) -> None:
    told = Listener()
    answer = ask(streams(delta(content=early), delta(reasoning_content="h"), delta(content="\n"), delta(reasoning="m"),
                         delta(content="four"), delta("stop"), usage(1, 5)), told=told)

    assert told.told == [(Channel.REASONING, "h"), (Channel.REASONING, "m"), (Channel.CONTENT, early + "\nfour")]
    assert (answer.reasoning, answer.text) == ("hm", early + "\nfour")


def test_reasoning_after_content_is_content() -> None:
    told = Listener()
    answer = ask(streams(delta(reasoning_content="a"), delta(content="b"), delta(reasoning_content="c"),
                         delta(content="d"), delta("stop"), usage(1, 5)), told=told)

    assert (answer.reasoning, answer.text) == ("a", "bcd")
    assert told.told == [(Channel.REASONING, "a"), *((Channel.CONTENT, piece) for piece in "bcd")]


def test_an_answer_of_whitespace_is_told_at_its_end() -> None:
    told = Listener()
    answer = ask(streams(delta(reasoning_content="a"), delta(content="\n"), delta("stop"), usage(1, 2)), told=told)

    assert (answer.reasoning, answer.text, told.heard(Channel.CONTENT)) == ("a", "\n", "\n")


def test_where_both_names_for_reasoning_are_there_it_counts_once() -> None:
    answer = ask(streams(delta(reasoning_content="hm", reasoning="hm"), delta(content="4"), delta("stop"), usage(1, 2)))

    assert (answer.reasoning, answer.text) == ("hm", "4")


def test_reasoning_in_tags_is_kept_apart_while_it_streams() -> None:
    told = Listener()
    answer = ask(streams(*(delta(content=piece) for piece in ("<th", "ink>h", "m</thi", "nk>\n", "\nfour <", "5")),
                         delta("stop"), usage(1, 6)), told=told)

    assert (answer.reasoning, answer.text) == ("hm", "four <5")
    assert told.told == [(Channel.REASONING, "h"), (Channel.REASONING, "m"), (Channel.CONTENT, "four <"),
                         (Channel.CONTENT, "5")]


def test_what_was_held_back_belongs_to_the_answer() -> None:
    assert ask(streams(delta(content="<thi"), delta("stop"), usage(1, 1))).text == "<thi"


def test_deepseeks_count_of_cached_tokens_is_understood() -> None:
    answer = ask(streams(delta(content="x"), delta("stop"), usage(64, 1, prompt_cache_hit_tokens=60)))

    assert answer.usage.cached_tokens == 60


def test_without_a_count_there_were_at_least_the_words_and_the_pieces() -> None:
    with upstream(streams(delta(content="a"), delta(content="b c"), delta("stop"))) as server, \
            engine_for(server.url) as engine:
        answer = engine.generate(chat("how are you?"), run_on)
        assert answer.usage == Usage(prompt_tokens=3, completion_tokens=2)
        assert engine.figures()["uncounted"] == 1


@pytest.mark.parametrize("ending", [delta("stop"), delta("stop", content="")])
def test_an_answer_that_was_ended_is_whole_though_the_usage_never_comes(ending: dict[str, Any]) -> None:
    assert ask(streams(delta(content="whole"), ending, done=False)).text == "whole"


def test_log_probabilities_of_messages_are_passed_through() -> None:
    token = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [
        {"token": "é", "logprob": -0.5, "bytes": [195, 169]}, {"token": "e", "logprob": -1.5, "bytes": None}]}
    piece = delta(content="é")
    piece["choices"][0]["logprobs"] = {"content": [token]}
    answer = ask(streams(piece, delta("stop"), usage(1, 1)), request=chat(logprobs=True, top_logprobs=2))

    assert answer.logprobs == [TokenLogprob(token="é", logprob=-0.5, bytes=[195, 169], top_logprobs=[
        TopLogprob(token="é", logprob=-0.5, bytes=[195, 169]), TopLogprob(token="e", logprob=-1.5, bytes=[101])])]


def test_log_probabilities_of_a_prompts_answer_are_brought_into_the_same_form() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-0.5, -1.0], "top_logprobs": [{"c": -2.0, "a": -0.5}, None]}
    answer = ask(streams(text("ab", "stop", logprobs=logprobs), usage(1, 2)),
                 request=ModelInput(prompt="x", logprobs=True, top_logprobs=1))

    assert answer.logprobs == [
        TokenLogprob(token="a", logprob=-0.5, bytes=[97],
                     top_logprobs=[TopLogprob(token="a", logprob=-0.5, bytes=[97])]),
        TokenLogprob(token="b", logprob=-1.0, bytes=[98], top_logprobs=[])]


@given(data=st.lists(st.text("abc:{} é\u2028", min_size=1), max_size=5), cuts=st.lists(st.integers(0, 80), max_size=6),
       newline=st.sampled_from(["\n", "\r\n"]))
def test_it_does_not_matter_where_a_streams_bytes_are_cut(data: list[str], cuts: list[int], newline: str) -> None:
    lines = [line for one in data for line in (": keep-alive", "", "event: x", f"data: {one}", "")]
    whole = "".join(line + newline for line in lines).encode()
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    events = Events()

    assert [found.decode() for start, end in itertools.pairwise([0, *ends])
            for found in events.feed(whole[start:end])] == data


def test_without_a_name_the_first_model_of_the_upstream_is_asked_and_looked_up_once() -> None:
    with upstream(WELL) as server, engine_for(server.url, openai_model="") as engine:
        engine.generate(chat(), run_on)
        engine.generate(chat(), run_on)
        assert [path for path, _, _ in server.asked] == ["/v1/models", *["/v1/chat/completions"] * 2]
        assert {body["model"] for path, _, body in server.asked if body} == {"first"}


def test_a_model_that_was_looked_up_is_looked_up_again_when_the_upstream_has_it_no_more() -> None:
    gone = refuses(404, {"error": {"message": "The model `first` does not exist."}})
    with upstream(WELL, gone, WELL) as server, engine_for(server.url, openai_model="") as engine:
        engine.generate(chat(), run_on)
        server.models = refuses(200, {"object": "list", "data": [{"id": "new"}]})
        assert engine.generate(chat(), run_on).text == "all well"
        assert [body["model"] for _, _, body in server.asked if body] == ["first", "first", "new"]


@pytest.mark.parametrize(("model", "calls"), [("wanted", 1), ("", 2)])
def test_a_model_that_is_nowhere_is_not_looked_up_for_ever(model: str, calls: int) -> None:
    with upstream(WELL, refuses(404, {})) as server, engine_for(server.url, openai_model=model) as engine:
        engine.generate(chat(), run_on)
        server.models = refuses(200, {"object": "list", "data": [{"id": "new"}]})
        with pytest.raises(EngineFailed, match="answered 404"):
            engine.generate(chat(), run_on)
        assert server.calls - 1 == calls


def test_many_requests_run_at_once_on_connections_of_their_own() -> None:
    together = threading.Barrier(100)

    def play(exchange: Any) -> None:
        together.wait(30)
        WELL(exchange)

    with upstream(play) as server, engine_for(server.url, slots=100, openai_connect_s=30.0) as engine:
        answers: list[str] = []
        threads = [threading.Thread(target=lambda: answers.append(engine.generate(chat(), run_on).text))
                   for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == ["all well"] * 100
        assert engine.figures() == {"requests": 100, "answers": 100, "errors": 0, "retries": 0, "refused": 0,
                                    "uncounted": 0, "running": 0, "breaker": 0, "breaker_opened": 0}
