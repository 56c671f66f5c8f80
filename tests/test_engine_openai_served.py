"""The openai engine on a real server of OpenAI's protocol, transformers' own (`transformers serve`), with a tiny model: its
answers are those that the torch engine gives with the same model, also through a whole stack.
"""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import EngineFailed
from app.inputs import Message, ModelInput
from app.settings import Settings
from ops.embedded_redis import free_port
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.test_engine_families import an_engine, greedy, save_model
from tests.upstream import Listener, run_on
from workers.engine import Channel, load_engine
from workers.engine.openai_engine import OpenAIEngine


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def served(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of `transformers serve` with the tiny model."""
    port = free_port()
    cache = tmp_path_factory.mktemp("hf")
    (cache / "hub").mkdir()  # GET /models lists what is in there, and fails where it is not
    log = (cache / "log").open("w")
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("transformers"), "serve", str(tiny_model), "--host", "127.0.0.1", "--port",
         str(port), "--device", "cpu"], env=environ, stdout=log, stderr=log)

    def healthy() -> bool:
        assert process.poll() is None, (cache / "log").read_text()
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200)
        except OSError:
            return False

    try:
        wait_until(healthy, timeout_s=180, what="transformers serve", every_s=0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def real(served: str, tiny_model: Path) -> Iterator[OpenAIEngine]:
    """The engine as a worker loads it, on the real server."""
    engine = load_engine(Settings(engine="openai", openai_url=served, openai_model=str(tiny_model)), 4)
    assert isinstance(engine, OpenAIEngine)
    yield engine
    engine.close()


def test_a_real_server_answers_a_prompt_and_messages_as_the_torch_engine_does(real: OpenAIEngine, tiny_model: Path) -> None:
    torch = an_engine(tiny_model)
    messages = [Message(role="system", content="be brief"), Message(role="user", content="the sea?")]
    for request in (greedy("the sea is"), ModelInput(messages=messages, max_tokens=24, temperature=0.0)):
        told = Listener()
        theirs, ours = real.generate(request, run_on, told), torch.generate(request, run_on)

        assert (theirs.text, theirs.finish_reason) == (ours.text, ours.finish_reason)
        assert (theirs.usage.prompt_tokens, theirs.usage.completion_tokens) == (
            ours.usage.prompt_tokens, ours.usage.completion_tokens)
        assert told.heard(Channel.CONTENT) == theirs.text
        assert len(told.told) > 1, "it was not streamed"
    torch.close()


def test_a_real_servers_refusal_is_passed_on(real: OpenAIEngine) -> None:
    with pytest.raises(EngineFailed, match=r"answered 422: Unexpected fields in the request: \{'top_k'\}"):
        real.generate(greedy("the sea is", top_k=5), run_on)


def test_a_job_submitted_over_http_gets_the_upstreams_answer(
        served: str, real: OpenAIEngine, tiny_model: Path, tmp_path: Path) -> None:
    sandbox = Sandbox.lay(tmp_path, engine="openai", profile="standard", openai_url=served, openai_model=str(tiny_model))
    try:
        report = sandbox.up()
        wanted = real.generate(greedy("the sea is"), run_on)
        with Caller(report["entry"], report["api_key"]) as caller:
            job = caller.call("POST", "/v1/jobs", json={
                "service": "model", "input": {"prompt": "the sea is", "max_tokens": 24, "temperature": 0.0}}).json()
            result = caller.ended(job["id"])["result"]
        assert (result["text"], result["finish_reason"]) == (wanted.text, wanted.finish_reason)
        assert result["model"].startswith(str(tiny_model))
        audit = sandbox.celery("audit")
        assert audit.returncode == 0, audit.stdout + audit.stderr
    finally:
        sandbox.down()
