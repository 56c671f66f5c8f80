"""A prompt over the model's context is refused before it is queued. Counting itself is in test_token_count.py."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app import model_card, topology
from app.accounts import Accounts, Role
from app.api import create_app, prompt_length
from app.api.prompt_length import PromptLength
from app.errors import PromptTooLong
from app.inputs import ModelInput
from app.model_card import ModelCard, publish
from app.settings import Settings
from app.store import open_redis
from app.token_count import TokenCounter
from ops.embedded_redis import free_port
from ops.waiting import wait_until
from tests import counted
from tests.test_engine_families import CONTEXT


@pytest.fixture
def key(client: redis.Redis) -> str:
    accounts = Accounts(client)
    return accounts.add_key(accounts.add("ada", Role.USER, "-"), "test")[0]


@pytest.fixture
def gateway(settings: Settings, key: str) -> FlaskClient:
    """A gateway on the empty Redis, without workers."""
    app = create_app(settings, topology.load({})[1])
    gateway = app.test_client()
    gateway.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return gateway


def post(gateway: FlaskClient, service: str = "model", **given_input: Any) -> Any:
    return gateway.post("/v1/jobs", json={"service": service, "input": given_input})


def accepted(client: redis.Redis) -> int:
    return int(client.hget("counts", "accepted") or 0)


def test_a_prompt_is_accepted_up_to_one_token_less_than_the_context(gateway: FlaskClient, client: redis.Redis) -> None:
    case = counted.serve(client)
    text = ""
    while case.counter.of_prompt(text + "x") < CONTEXT:
        text += "x"

    assert post(gateway, prompt=text).status_code == 202
    answer = post(gateway, prompt=text + "x")

    assert (answer.status_code, answer.json["code"], answer.json["pointer"]) == (422, "prompt-too-long", "/input/prompt")
    assert answer.json["detail"] == "the prompt has 96 tokens; tiny takes 96 with the answer, so send at most 95"
    assert accepted(client) == 1


@pytest.mark.parametrize("service", ["model", "chat"])
def test_messages_over_the_context_are_refused_and_nothing_is_written(
        gateway: FlaskClient, client: redis.Redis, service: str) -> None:
    case = counted.serve(client)
    text = "the sky is blue, \N{SNOWMAN} " * 40
    before = set(client.scan_iter())

    answer = (post(gateway, messages=[{"role": "user", "content": text}]) if service == "model"
              else post(gateway, "chat", conversation="c", message=text))

    tokens = counted.transformers_count(case.tokenizer, counted.conversation(text))
    assert (answer.status_code, answer.json["code"]) == (422, "prompt-too-long")
    assert answer.json["pointer"] == ("/input/messages" if service == "model" else "/input/message")
    assert answer.json["detail"].startswith(f"the prompt has {tokens} tokens; tiny takes 96")
    assert set(client.scan_iter()) == before


def test_messages_that_the_template_does_not_take_are_refused(gateway: FlaskClient, client: redis.Redis) -> None:
    counted.serve(client)

    answer = post(gateway, messages=[{"role": "user", "content": "the sea " * 10}] * 2)

    assert (answer.status_code, answer.json["code"], answer.json["pointer"]) == (422, "invalid-input", "/input/messages")
    assert "roles must alternate" in answer.json["detail"]
    assert accepted(client) == 0


@pytest.mark.parametrize("template", ["{{ 1 / 0 }}", "{% for %}", None], ids=["failing", "no template", "without"])
def test_what_cannot_be_counted_is_left_to_the_engine(
        gateway: FlaskClient, client: redis.Redis, template: str | None) -> None:
    counted.serve(client, chat_template=template)

    assert post(gateway, messages=[{"role": "user", "content": "the sea " * 1000}]).status_code == 202
    assert post(gateway, "cache", operation="put", key="k", value="the sea " * 1000).status_code == 202


def test_a_tokenizer_that_is_gone_refuses_nothing(gateway: FlaskClient, client: redis.Redis) -> None:
    case = counted.serve(client)
    client.delete(f"tokenizer:{case.card.tokenizer}")

    assert post(gateway, prompt="the sea " * 1000).status_code == 202


def test_without_a_card_nothing_is_refused(gateway: FlaskClient, client: redis.Redis) -> None:
    assert post(gateway, prompt="the sea " * 1000).status_code == 202


def test_only_what_no_server_can_take_is_refused(gateway: FlaskClient, client: redis.Redis) -> None:
    counted.serve(client, name="small")
    counted.serve(client, "server-2", name="large", context=1000)

    assert post(gateway, prompt="x" * 500).status_code == 202
    answer = post(gateway, prompt="x" * 2000)

    assert answer.json["code"] == "prompt-too-long"
    assert "large takes 1000" in answer.json["detail"]


def test_messages_that_only_one_models_template_takes_are_not_refused(gateway: FlaskClient, client: redis.Redis) -> None:
    counted.serve(client, "server-1", context=1000)
    counted.serve(client, "server-2", context=900, template=counted.TEMPLATES["plain"])

    assert post(gateway, messages=[{"role": "user", "content": "the sea " * 30}] * 2).status_code == 202
    assert post(gateway, messages=[{"role": "user", "content": "the sea " * 400}] * 2).status_code == 422


def test_a_tokenizer_is_loaded_once_for_all_that_need_it(
        gateway: FlaskClient, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    counted.serve(client)
    counted.serve(client, "server-2", context=90)
    loads: list[ModelCard] = []
    monkeypatch.setattr(prompt_length, "TokenCounter", lambda card, text: loads.append(card) or TokenCounter(card, text))

    assert {post(gateway, prompt="x" * 500).status_code for _ in range(5)} == {422}

    assert len(loads) == 1


def test_a_model_that_is_not_served_any_more_refuses_nothing(
        gateway: FlaskClient, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    counted.serve(client)
    assert post(gateway, prompt="x" * 500).status_code == 422
    monkeypatch.setattr("app.api.prompt_length._FRESH_S", 0.0)

    publish(client, "server-1", None)

    assert post(gateway, prompt="x" * 500).status_code == 202


def test_cards_are_not_read_for_each_request(
        gateway: FlaskClient, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    counted.serve(client, context=4096)
    reads: list[float] = []
    read = model_card.read
    monkeypatch.setattr(model_card, "read", lambda client: reads.append(time.monotonic()) or read(client))

    assert {post(gateway, prompt="hello").status_code for _ in range(50)} == {202}

    assert len(reads) <= 1 + (time.monotonic() - reads[0]) / 5


def test_a_request_that_was_accepted_is_replayed_though_the_model_served_now_could_not_take_it(
        gateway: FlaskClient, client: redis.Redis) -> None:
    def ask(key: str, text: str) -> Any:
        return gateway.post("/v1/jobs", headers={"Idempotency-Key": key}, json={
            "service": "model", "input": {"prompt": text}})

    first = ask("k", "x" * 500)
    counted.serve(client)
    wait_until(lambda: post(gateway, prompt="x" * 500).status_code == 422, timeout_s=20, what="the model to be known",
               every_s=0.2)

    again, changed = ask("k", "x" * 500), ask("k", "x" * 501)

    assert (again.status_code, again.json["id"], again.headers["Idempotency-Replayed"]) == (202, first.json["id"], "true")
    assert (changed.status_code, changed.json["code"]) == (422, "idempotency-mismatch")


# -- threads


FULL = """
from gevent import monkey
sleep = monkey.get_original("time", "sleep") if monkey.patch_all() or True else None
import gevent, time
from app.api import prompt_length
prompt_length._LONGEST_COUNT_S = 0.2
length = prompt_length.PromptLength(None)
busy = [gevent.spawn(lambda: length._beside(lambda: sleep(3))) for _ in range(2)]
gevent.sleep(0.1)
begun_s = time.monotonic()
try:
    length._beside(lambda: None)
except TimeoutError as exc:
    print(f"{time.monotonic() - begun_s < 1} {exc}")
with length._loading:
    try:
        gevent.spawn(length._counter, CARD).get()
    except TimeoutError as exc:
        print(f"{time.monotonic() - begun_s < 2} {exc}")
import os
os._exit(0)
"""


def test_a_prompt_waits_for_a_thread_for_a_limited_time() -> None:
    card = ('from app.model_card import ModelCard\nCARD = ModelCard(name="", context=1, tokenizer="", chat_template=None, '
            "special_tokens={}, split_special_tokens=False, tokens_per_byte=1, added_tokens=0, template_bytes=None)\n")
    script = FULL.replace("prompt_length._LONGEST", card + "prompt_length._LONGEST", 1)

    done = subprocess.run([sys.executable, "-u", "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.splitlines() == [
        "True no thread had counted within 0.2 s", "True others had loaded tokenizers for 0.2 s"], done.stderr


# -- Redis away


def test_a_redis_that_refuses_or_hangs_neither_fails_nor_holds_a_check(tmp_path: Path) -> None:
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen()
        for port in (free_port(), hung.getsockname()[1]):
            away = Settings(redis_url=f"redis://127.0.0.1:{port}/0", data_dir=tmp_path, redis_timeout_s=1.0)
            with open_redis(away) as client:
                length, begun_s = PromptLength(client), time.monotonic()
                for _ in range(3):
                    length.check(ModelInput(prompt="x" * 5000), 5000)
                assert time.monotonic() - begun_s < 2.0


def test_what_was_known_counts_while_redis_is_away_but_refuses_nothing(
        client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    counted.serve(client)
    length = PromptLength(client)
    with pytest.raises(PromptTooLong):
        length.check(ModelInput(prompt="x" * 500), 500)

    def away(_: redis.Redis) -> tuple[ModelCard, ...]:
        raise redis.exceptions.ConnectionError("away")

    monkeypatch.setattr(model_card, "read", away)
    monkeypatch.setattr(prompt_length, "_FRESH_S", 0.0)
    monkeypatch.setattr(prompt_length, "_BELIEVED_S", 0.0)

    length.check(ModelInput(prompt="x"), 20)
    length.check(ModelInput(prompt="x" * 500), 500)
