"""Prompts over the context, sent to real gateway processes: others are not held up. (A whole stack refuses them as well:
tests.test_streaming_clients.)"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from app.accounts import Accounts, Role
from app.model_card import publish
from app.settings import Settings
from ops.embedded_redis import free_port
from ops.waiting import wait_until
from tests import counted
from workers.engine.card import card_of


@pytest.fixture
def key(client: redis.Redis) -> str:
    accounts = Accounts(client)
    return accounts.add_key(accounts.add("ada", Role.USER, "-"), "test")[0]


@pytest.fixture
def address(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """A gateway process, one, as a server runs it; nothing in it may have crashed."""
    address = f"127.0.0.1:{free_port()}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    log = tmp_path / "gateway.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--worker-class", "ops.gateway_worker.GatewayWorker", "--workers", "1",
             "--no-control-socket", "--bind", address, "--graceful-timeout", "5", "app.api:from_environment()"],
            env={**environ, "TANDEM_REDIS_URL": settings.redis_url, "TANDEM_DATA_DIR": str(settings.data_dir)},
            stdout=output, stderr=output)
    wait_until(lambda: answers(f"http://{address}/healthz"), timeout_s=30, what="the gateway to answer")
    yield f"http://{address}"
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert "Traceback" not in log.read_text(), log.read_text()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def test_the_longest_prompt_is_counted_without_holding_up_others(address: str, client: redis.Redis, key: str) -> None:
    tokenizer, _ = counted.demo()
    card, text = card_of(tokenizer, "demo", 8192) or pytest.fail("no card")
    publish(client, "server-1", card, text)
    text = "the sky is blue; " * 60_000
    body = {"service": "model", "input": {"messages": [{"role": "user", "content": text}]}}
    answers_to_long: list[requests.Response] = []

    def ask() -> None:
        answers_to_long.append(requests.post(f"{address}/v1/jobs", json=body, timeout=60, headers={
            "Authorization": f"Bearer {key}"}))

    ask()  # loads the tokenizer
    asking = threading.Thread(target=ask)
    asking.start()
    waits_s: list[float] = []
    while asking.is_alive():
        begun_s = time.monotonic()
        assert answers(f"{address}/healthz")
        waits_s.append(time.monotonic() - begun_s)
    asking.join()

    tokens = counted.transformers_count(tokenizer, counted.conversation(text))
    for answer in answers_to_long:
        assert (answer.status_code, answer.json()["code"]) == (422, "prompt-too-long")
        assert f"has {tokens} tokens; demo takes 8192" in answer.json()["detail"]
    assert max(waits_s) < 0.5, f"a short request waited {max(waits_s):.3f} s"
    assert len(waits_s) > 5
    assert not client.exists("counts")


def test_many_prompts_at_once_are_each_judged(address: str, client: redis.Redis, key: str) -> None:
    counted.serve(client)
    statuses: dict[int, set[int]] = {500: set(), 5: set()}

    def ask(length: int) -> None:
        for _ in range(5):
            statuses[length].add(requests.post(f"{address}/v1/jobs", timeout=60, headers={
                "Authorization": f"Bearer {key}"}, json={
                "service": "model", "input": {"messages": [{"role": "user", "content": "x" * length}]}}).status_code)

    threads = [threading.Thread(target=ask, args=(length,)) for length in (500, 5) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == {500: {422}, 5: {202}}
