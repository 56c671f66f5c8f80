"""The torch engine without a gateway, a queue or a worker: the program of the subject `engine`.

    python -m ops.bench.engine_alone MODEL ROWS
"""

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from app.settings import Settings
from ops.bench.engine_sampler import Profile
from ops.bench.writing import Answer, Load, Timed, Written, serve
from workers.engine import Channel, Engine, load_engine

#: The engine's figures that a profile gives: passes are over prompts, steps give each running row a token.
_COUNTED = ("passes", "prompt_tokens", "cached_tokens", "steps", "completion_tokens")

Asked = TypeVar("Asked")
Given = TypeVar("Given")


def main(model: Path, rows: int) -> None:
    """Load the model and serve."""
    engine = load_engine(Settings(model=str(model), dtype="float32", data_dir=model.parent), rows)
    serve(lambda load: written(engine, load))


def written(engine: Engine, load: Load) -> Written:
    """Have the engine write what the load asks for."""
    profile, before = Profile(), engine.figures()
    with profile if load.profiled else nullcontext():
        answers, took_s = at_once(load.timed(), lambda timed: _answer(engine, timed))
    if not load.profiled:
        return Written(answers=answers, took_s=took_s)
    counted = {name: engine.figures()[name] - before[name] for name in _COUNTED}
    return Written(answers=answers, took_s=took_s, profile="\n\n".join((
        "The engine counted " + ", ".join(f"{count:,} {name}" for name, count in counted.items()) + ".", profile.text())))


def at_once(callers: list[list[Asked]], ask: Callable[[Asked], Given]) -> tuple[list[list[Given]], float]:
    """Let each caller ask its questions in turn, all callers at once; return the answers, and the seconds to the last."""
    start = threading.Barrier(len(callers) + 1)

    def call(questions: list[Asked]) -> list[Given]:
        start.wait()
        return [ask(question) for question in questions]

    with ThreadPoolExecutor(len(callers)) as pool:
        futures = [pool.submit(call, questions) for questions in callers]
        start.wait()
        began_s = time.perf_counter()
        return [future.result() for future in futures], time.perf_counter() - began_s


def _answer(engine: Engine, timed: Timed) -> Answer:
    told_s: list[float] = []
    time.sleep(timed.pause_s)
    began_s = time.perf_counter()

    def tell(_channel: Channel, _text: str) -> None:
        told_s.append(time.perf_counter() - began_s)

    generation = engine.generate(timed.request, lambda: False, tell)
    usage = generation.usage
    return Answer(prompt_tokens=usage.prompt_tokens, tokens=usage.completion_tokens, cached_tokens=usage.cached_tokens,
                  text=generation.text, told_s=told_s)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
