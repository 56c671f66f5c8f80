"""The rows about the model service: what they count and say, and that each can be measured. The measuring itself is
`make bench`."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ops.bench import chart, report
from ops.bench.endless import without_ends
from ops.bench.errors import NotAsPromised
from ops.bench.figures import Figures
from ops.bench.rows import ROWS, Difference, Ratio, Row, Series, conversations, streams
from ops.bench.rows.tokens import TOKENS, greedy, load, prompt, write
from ops.bench.subjects import Writer
from ops.bench.subjects.engine import Engine
from ops.bench.subjects.service import Service
from ops.bench.subjects.transformers import Continuous, OneByOne, Static
from ops.bench.writing import Answer, Load, Written
from tests.test_engine_families import save_model

OVER, UNDER = Series("service", "first ms"), Series("engine", "first ms")
ROW = Row(name="B8", title="streaming", how="by listening", subjects=("service", "engine"), measure=lambda *_: {}, ratios=(
    Difference(name="B8a", says="added", at_most=15, over=OVER, under=UNDER),
    Difference(name="B8b", says="added, no aim", over=OVER, under=UNDER),
    Ratio(name="B8c", says="a ratio", at_most=1.2, over=OVER, under=UNDER)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model without end tokens, and with room for the rows' texts: of its tokens a word has several."""
    home = tmp_path_factory.mktemp("models")
    return without_ends(save_model(home / "tiny", max_position_embeddings=4096), home)


@pytest.fixture(scope="module")
def writers(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Writer]]:
    """The writers that are a process each, running."""
    with ExitStack() as stack:
        yield {kind.name: stack.enter_context(started(kind(model), tmp_path_factory.mktemp("writer")))
               for kind in (Engine, OneByOne, Continuous, Static)}


@contextmanager
def started(writer: Writer, folder: Path) -> Iterator[Writer]:
    try:
        writer.prepare()
        writer.start(folder)
        yield writer
    finally:
        writer.stop()


class Pretender(Writer):
    """Says what it was told to say, and keeps what it was asked."""

    name = "pretender"

    def __init__(self, answer: Callable[[int], Answer]) -> None:
        super().__init__(Path())
        self._answer = answer
        self.asked: list[str] = []

    def _start(self, folder: Path) -> None: ...

    def stop(self) -> None: ...

    def write(self, load: Load) -> Written:
        self.asked += [str(request.prompt) for requests in load.callers for request in requests]
        return Written(took_s=2.0, answers=[[self._answer(request.max_tokens) for request in requests]
                                            for requests in load.callers])


def measured(service: list[float], engine: list[float]) -> Figures:
    figures = Figures()
    for with_it, without in zip(service, engine, strict=True):
        figures.add(ROW, "service", {"first ms": with_it})
        figures.add(ROW, "engine", {"first ms": without})
    return figures


def test_a_difference_is_made_round_by_round_so_a_slow_round_cancels_out() -> None:
    spread = measured([110, 212, 95], [100, 200, 90]).ratio(ROW, ROW.ratios[0])

    assert (spread.median, spread.lowest, spread.highest) == (10, 5, 12)


@pytest.mark.parametrize(("service", "lines"), [
    (112.0, ["B8a | streaming: added | <= +15 ms | **+12.0 ms** | +12.0 ms to +12.0 ms | yes",
             "B8b | streaming: added, no aim |  | **+12.0 ms** | +12.0 ms to +12.0 ms | reported",
             "B8c | streaming: a ratio | <= 1.2x | **1.12x** | 1.12x to 1.12x | yes"]),
    (118.5, ["<= +15 ms | **+18.5 ms** | +18.5 ms to +18.5 ms | **no**, 3.5 ms too long"]),
    (97.0, ["<= +15 ms | **-3.0 ms** | -3.0 ms to -3.0 ms | yes"])])
def test_the_report_gives_differences_in_ms(service: float, lines: list[str]) -> None:
    text = report.text([ROW], measured([service], [100.0]), [], "")

    for line in lines:
        assert line in text


@pytest.mark.parametrize("service", [97.0, 100.0, 170.0])
def test_the_chart_draws_differences_to_a_scale_of_their_own_and_none_to_the_left(service: float) -> None:
    drawn = chart.svg([ROW], measured([service], [100.0]))

    widths = [float(width) for width in re.findall(r'y="[\d.]+" width="([-\d.]+)" height="16"', drawn)]
    assert len(widths) == 3
    assert min(widths) >= 0
    assert widths[0] == widths[1]
    assert f"{service - 100:+.1f} ms (aim &lt;= +15 ms)" in drawn


def test_moments_are_of_the_first_piece_of_the_gaps_and_of_a_token() -> None:
    answers = [Answer(prompt_tokens=1, tokens=5, told_s=[first, first + 0.1, first + 0.2])
               for first in (0.1, 0.2, 0.3, 0.4)]
    answers[0] = Answer(prompt_tokens=1, tokens=3, told_s=[0.1, 0.5])

    assert streams.moments(answers) == pytest.approx({
        "first text p50 ms": 200, "first text p95 ms": 400, "gap p50 ms": 100, "gap p95 ms": 400,
        "mean of a token ms": (200 + 3 * 50) / 4})


def test_an_answer_that_came_in_one_piece_has_no_moments() -> None:
    with pytest.raises(NotAsPromised, match="1 of 1 answers"):
        streams.moments([Answer(prompt_tokens=1, tokens=5, told_s=[0.1])])


def test_a_writer_that_writes_too_little_has_no_figure() -> None:
    writer = Pretender(lambda tokens: Answer(prompt_tokens=1, tokens=tokens - 1))

    with pytest.raises(NotAsPromised, match="pretender wrote 7 tokens instead of 8"):
        write(writer, load(writer, 2, tokens=8))


def test_tokens_a_second_are_those_of_all_answers_together() -> None:
    writer = Pretender(lambda tokens: Answer(prompt_tokens=1, tokens=tokens))

    assert write(writer, load(writer, 4, tokens=16)).tokens_per_s == 32
    assert ROWS["B6"].measure(writer, 0) == {f"tokens/s at {count}": count * TOKENS / 2 for count in (1, 4, 16, 32)}


def test_writers_are_asked_the_same_in_a_round_and_never_the_same_twice(tmp_path: Path) -> None:
    one, other = (Pretender(lambda tokens: Answer(prompt_tokens=1, tokens=tokens)) for _ in range(2))
    for writer in (one, other, one):
        writer.start(tmp_path)
        ROWS["B6"].measure(writer, 0)

    assert one.asked[:len(other.asked)] == other.asked
    assert len(set(one.asked)) == len(one.asked)
    assert {len(text.split()) for text in other.asked} >= {8, 64}


def test_without_its_end_tokens_a_model_keeps_the_rest(model: Path) -> None:
    assert '"eos_token_id": null' in (model / "config.json").read_text()
    assert (model / "model.safetensors").samefile(model.parent / "tiny" / "model.safetensors")


def quoted(row: str, subject: str) -> set[str]:
    """The figures of a subject that the row's ratios are made of."""
    used = {series for ratio in ROWS[row].ratios for series in (ratio.over, ratio.under)}
    return {series.figure for series in used if series.subject == subject}


def test_all_writers_write_the_same(writers: dict[str, Writer]) -> None:
    said = {name: [answer.text for answer in write(writer, load(writer, 5, tokens=12)).all_answers]
            for name, writer in writers.items()}

    assert len(said["engine"]) == 5
    assert all(texts == said["engine"] for texts in said.values()), said


@pytest.mark.parametrize("subject", ROWS["B6"].subjects)
def test_b6_is_measured(subject: str, writers: dict[str, Writer]) -> None:
    assert quoted("B6", subject) <= set(ROWS["B6"].measure(writers[subject], 0))


@pytest.mark.parametrize("row", ["B7", "B8"])
def test_b7_and_b8_are_measured_on_the_engine(row: str, writers: dict[str, Writer]) -> None:
    assert quoted(row, "engine") <= set(ROWS[row].measure(writers["engine"], 0))


def test_b9_is_measured(writers: dict[str, Writer]) -> None:
    assert quoted("B9", "engine") <= set(conversations.measure(writers["engine"], 0, words=400))


def test_a_second_turn_whose_first_is_not_held_has_no_figure() -> None:
    forgetful = Pretender(lambda tokens: Answer(prompt_tokens=1000, tokens=tokens, told_s=[0.1]))

    with pytest.raises(NotAsPromised, match="0 of 1000 tokens of a held turn were held"):
        ROWS["B9"].measure(forgetful, 0)


def test_the_engine_can_be_profiled(writers: dict[str, Writer]) -> None:
    engine = writers["engine"]

    assert "| steps: the model |" in engine.write(load(engine, 16, profiled=True)).profile


def test_b7_is_measured_and_text_is_heard_through_the_whole_stack(model: Path, tmp_path: Path) -> None:
    with started(service := Service(model), tmp_path / "stack"):
        pins = {" ".join(process.cmdline()): set(process.cpu_affinity()) for process in service.processes()}
        figures = ROWS["B7"].measure(service, 0)
        wanted = Load(listening=True, callers=[[greedy(prompt(service, at), 400)] for at in range(3)])
        heard = write(service, wanted).all_answers

    assert quoted("B7", "service") <= set(figures)
    models = [command for command in pins if "-Q model" in command]
    assert models
    for command, cpus in pins.items():
        if len(os.sched_getaffinity(0)) > 1 and command not in models:
            assert cpus.isdisjoint(pins[models[0]]), command
    for answer in heard:
        assert answer.told_s
        assert answer.told_s == sorted(answer.told_s)


def test_a_writer_that_cannot_load_its_model_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotAsPromised, match="writer ended by itself"), started(Engine(tmp_path / "nowhere"), tmp_path):
        pass
