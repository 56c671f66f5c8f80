"""What `POST /v1/chat/completions` and `GET /v1/models` take and refuse, in OpenAI's form; the model is not run."""

from typing import Any

import msgspec
import pytest
import redis

from app.completion_request import MOST_TOKENS, read
from app.inputs import LARGEST_SEED, ModelInput
from app.job import State
from app.ledger import Claim, Ending, Ledger, Piece, Saying, Voice, new_owner
from app.settings import Settings
from tests.gateway import Gateway
from tests.model_ledger import PLACE

ASKED: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
def gateway(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(settings, client)


def refused(gateway: Gateway, **members: Any) -> tuple[int, dict[str, Any]]:
    answer = gateway.call("POST", "/v1/chat/completions", json={**ASKED, **members})
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code, answer.json["error"]


@pytest.mark.parametrize(("members", "param", "said"), [
    ({"foo": 1}, "foo", "unknown field"),
    ({"messages": [{"role": "bot", "content": "a"}]}, "messages[0].role", "must be one of assistant"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
     "messages[0].content[0].type", "image_url"),
    ({"messages": []}, "messages", "length"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "messages[0]", "length >= 1"),
    ({"temperature": 3}, "temperature", "<= 2"),
    ({"n": 9}, "n", "<= 8"),
    ({"stream_options": {"include_usage": True}}, None, "needs `stream`"),
    ({"tool_choice": "required"}, None, "needs `tools`"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, None, "not among"),
])
def test_what_is_wrong_is_a_400_that_names_the_member(
        gateway: Gateway, members: dict[str, Any], param: str | None, said: str) -> None:
    status, error = refused(gateway, **members)

    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert said in error["message"]


def test_an_unknown_model_is_a_404_and_the_models_are_listed(gateway: Gateway) -> None:
    status, error = refused(gateway, model="gpt-x")
    listed = gateway.call("GET", "/v1/models").json

    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert (listed["object"], [model["object"] for model in listed["data"]]) == ("list", ["model"])
    name = listed["data"][0]["id"]
    assert gateway.call("GET", f"/v1/models/{name}").json["id"] == name
    assert gateway.call("GET", "/v1/models/org/other").json["error"]["code"] == "model_not_found"


def test_wrong_credentials_and_other_faults_around_the_body_are_in_openais_form(gateway: Gateway) -> None:
    stranger = gateway.call("POST", "/v1/chat/completions", json=ASKED, headers={"Authorization": "Bearer tk_no"})
    broken = gateway.call("POST", "/v1/chat/completions", data=b"{", content_type="application/json")
    wrong_method = gateway.call("GET", "/v1/chat/completions")
    elsewhere = gateway.call("GET", "/v1/jobs/x")

    assert (stranger.status_code, stranger.json["error"]["code"]) == (401, "invalid_api_key")
    assert "WWW-Authenticate" in stranger.headers
    assert (broken.status_code, broken.json["error"]["type"]) == (400, "invalid_request_error")
    assert (wrong_method.status_code, wrong_method.json["error"]["type"]) == (405, "invalid_request_error")
    assert "error" not in elsewhere.json, "other paths have problems"


def test_an_sdks_whole_conversation_is_read_and_null_counts_as_left_out() -> None:
    wanted = read(msgspec.json.encode({
        "model": "m", "tools": [TOOL], "temperature": None, "stop": None, "n": None, "user": "u", "store": False,
        "metadata": {"a": "b"}, "parallel_tool_calls": True, "max_completion_tokens": 7, "seed": 5, "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "annotations": None,
             "audio": None, "function_call": None},
            {"role": "tool", "tool_call_id": "call_1", "content": ""}]}))

    assert (wanted.n, wanted.temperature) == (1, None)
    assert [message.text for message in wanted.messages] == ["be brief", "ab", "", ""]
    assert (wanted.input_of(0).max_tokens, [wanted.input_of(at).seed for at in range(3)]) == (7, [5, 6, 7])
    assert read(msgspec.json.encode(ASKED)).input_of(0).max_tokens == MOST_TOKENS


def test_each_choices_input_is_one_that_a_worker_reads_also_after_the_largest_seed() -> None:
    wanted = read(msgspec.json.encode({**ASKED, "n": 2, "seed": LARGEST_SEED}))

    inputs = [msgspec.json.decode(msgspec.json.encode(wanted.input_of(choice)), type=ModelInput) for choice in range(2)]
    assert [one.seed for one in inputs] == [LARGEST_SEED, 0]


def test_a_reader_who_is_told_that_the_answer_comes_later_gets_blank_lines_and_the_jobs_end_with_his_connection(
        gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.completions._SOON_S", 0.05)
    answer = gateway.call("POST", "/v1/chat/completions", json={**ASKED, "n": 2})
    body = iter(answer.response)

    assert (answer.status_code, next(body)) == (200, b"\n")
    assert states(gateway) == ["queued"] * 2
    answer.close()
    assert states(gateway) == ["cancelled"] * 2


def states(gateway: Gateway) -> list[str]:
    return [job["state"] for job in gateway.call("GET", "/v1/jobs").json["data"]]


def test_the_client_is_told_the_status_of_a_job_that_another_cancels(
        gateway: Gateway, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.completions._SOON_S", 0.05)
    answer = gateway.call("POST", "/v1/chat/completions", json=ASKED)
    body = iter(answer.response)
    next(body)
    ledger.cancel(newest(gateway))

    assert msgspec.json.decode(b"".join(body))["error"]["code"] == "cancelled"


@pytest.mark.parametrize(("anew", "sent", "error"), [
    ("one two three", "one two three", None), ("one six", "one two", "stream_diverged")])
def test_a_stream_goes_on_after_a_restart_only_where_the_new_answer_agrees_with_what_was_sent(
        gateway: Gateway, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, anew: str, sent: str, error: str | None) -> None:
    monkeypatch.setattr("app.api.completions._SOON_S", 0.05)
    answer = gateway.call("POST", "/v1/chat/completions", json={**ASKED, "stream": True})
    body = iter(answer.response)
    said = [next(body)]
    claim = claimed(ledger, newest(gateway))
    ledger.say([Saying(claim, Piece(claim.attempt, 7, Voice.CONTENT, "one two"))])
    said.append(next(body))
    ledger.release(claim, because="drain")
    again = claimed(ledger, claim.id)
    ledger.say([Saying(again, Piece(again.attempt, len(anew), Voice.CONTENT, anew))])
    ledger.settle(again, State.SUCCEEDED, Ending(result=msgspec.json.encode(
        {"text": anew, "finish_reason": "stop", "model": "m"})))
    said += list(body)

    *pieces, last = [event.removeprefix(b"data: ") for event in b"".join(said).split(b"\n\n")[:-1]]
    decoded = [msgspec.json.decode(piece) for piece in pieces]
    texts = [piece["choices"][0]["delta"].get("content", "") for piece in decoded]
    assert "".join(texts) == sent
    assert last == b"[DONE]" if error is None else msgspec.json.decode(last)["error"]["code"] == error


def newest(gateway: Gateway) -> str:
    return str(gateway.call("GET", "/v1/jobs").json["data"][0]["id"])


def claimed(ledger: Ledger, job_id: str) -> Claim:
    claim = ledger.claim(job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    return claim
