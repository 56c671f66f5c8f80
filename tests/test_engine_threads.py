"""The engine with its thread: requests of many threads at once, stopped ones, and its end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest

from app.errors import EngineTransient, JobStopped
from app.inputs import ModelInput
from tests.test_engine_families import an_engine, greedy, run_on, save_model
from workers.engine import Generation
from workers.engine.torch_engine import TorchEngine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchEngine]:
    with closing(an_engine(save_model(tmp_path_factory.mktemp("model") / "tiny"))) as engine:
        yield engine


def test_requests_of_many_threads_at_once_all_get_the_answers_they_get_alone(engine: TorchEngine) -> None:
    requests = [greedy(f"the sea is {word}", 12) for word in ("wide", "blue", "out", "there")]
    requests += [ModelInput(prompt="the sky is", max_tokens=12, seed=seed, top_p=0.9) for seed in range(4)]
    alone = [engine.generate(request, run_on).text for request in requests]
    together = Barrier(len(requests))

    def ask(request: ModelInput) -> list[Generation]:
        together.wait(30)
        return [engine.generate(request, run_on) for _ in range(3)]

    with ThreadPoolExecutor(len(requests)) as threads:
        answers = list(threads.map(ask, requests))
    assert [[each.text for each in three] for three in answers] == [[text] * 3 for text in alone]
    assert len(set(alone)) == len(requests)


def test_a_stopped_request_raises_and_the_next_gets_its_answer(engine: TorchEngine) -> None:
    alone = engine.generate(greedy("the sea is"), run_on).text
    asked: list[None] = []

    def after_five() -> bool:
        asked.append(None)
        return len(asked) > 5

    with pytest.raises(JobStopped, match="stopped after 6 tokens"):
        engine.generate(greedy("the sea is"), after_five)
    assert engine.figures()["running"] == 0
    assert engine.generate(greedy("the sea is"), run_on).text == alone


def test_an_engine_can_be_closed_twice(tmp_path: Path) -> None:
    engine = an_engine(save_model(tmp_path / "tiny"))
    engine.close()
    engine.close()

    with pytest.raises(EngineTransient, match="closing"):
        engine.generate(greedy("the sea is"), run_on)
