"""B6: tokens a second of the engine, beside transformers' own ways of using a model."""

from app.inputs import ModelInput
from ops.bench.errors import NotAsPromised
from ops.bench.rows.row import Ratio, Row, Series
from ops.bench.subjects import Writer
from ops.bench.writing import Load, Written

TOKENS = 48
_ALONE = 2  # requests, one after another
_TOGETHER = (4, 16, 32)
_SHORTEST_WORDS, _LONGEST_WORDS = 8, 64
_NO_BATCH, _ONLY_BATCHES = ("generate",), ("transformers cb", "static batch")


def measure(writer: Writer, _seconds: float) -> dict[str, float]:
    """Have texts continued: some one after another, and several at once."""
    figures = {}
    if writer.name not in _ONLY_BATCHES:
        took_s = sum(write(writer, load(writer, 1, at=at)).took_s for at in range(_ALONE))
        figures[_at(1)] = _ALONE * TOKENS / took_s
    if writer.name not in _NO_BATCH:
        figures |= {_at(requests): write(writer, load(writer, requests)).tokens_per_s for requests in _TOGETHER}
    return figures


def load(writer: Writer, requests: int, *, tokens: int = TOKENS, at: int = 0, profiled: bool = False) -> Load:
    """Return so many requests at once, with prompts of differing lengths; the first has the `at`-th length of 16."""
    return Load(profiled=profiled, callers=[[greedy(prompt(writer, at + number), tokens)] for number in range(requests)])


def prompt(writer: Writer, number: int) -> str:
    """Return words that were not given since the writer started. Their count goes up and down with the number."""
    return writer.words(_SHORTEST_WORDS + number * 7 % 16 * (_LONGEST_WORDS - _SHORTEST_WORDS) // 15)


def greedy(text: str, tokens: int) -> ModelInput:
    """Return a request for the likeliest continuation of a text."""
    return ModelInput(prompt=text, max_tokens=tokens, temperature=0.0)


def write(writer: Writer, wanted: Load) -> Written:
    """Have it written. Raises `NotAsPromised` unless each answer has as many tokens as were asked for."""
    written = writer.write(wanted)
    for requests, answers in zip(wanted.callers, written.answers, strict=True):
        for request, answer in zip(requests, answers, strict=True):
            if answer.tokens != request.max_tokens:
                raise NotAsPromised(f"{writer.name} wrote {answer.tokens} tokens instead of {request.max_tokens}")
    return written


def _at(requests: int) -> str:
    return f"tokens/s at {requests}"


def _over(name: str, says: str, requests: int, subject: str, at_least: float | None, *, of: int = 0) -> Ratio:
    return Ratio(name=name, says=says, at_least=at_least, over=Series("engine", _at(requests)),
                 under=Series(subject, _at(of or requests)))


ROW = Row(
    name="B6", title="tokens/s", measure=measure, subjects=("engine", "generate", "transformers cb", "static batch"),
    how="Tandem is its engine alone; the demo model in float32, one thread on one processor; texts of "
        f"{_SHORTEST_WORDS} to {_LONGEST_WORDS} words, each given only once, are continued by {TOKENS} tokens, greedily; "
        "end tokens are taken out of the model, so that all write as many. Text in, text out, from the first request to "
        f"the last answer. At 1: {_ALONE} requests, one after another.",
    ratios=(
        _over("B6a", "Tandem over transformers' continuous batching at 16", 16, "transformers cb", 1.5),
        _over("B6b", "Tandem over a static batch of 4", 4, "static batch", 0.85),
        _over("B6c", "Tandem over a static batch of 16", 16, "static batch", 0.85),
        _over("B6d", "Tandem over a static batch of 32", 32, "static batch", 0.85),
        _over("B6e", "Tandem over `generate`, a request alone", 1, "generate", 0.95),
        _over("B6f", "Tandem at 16 over `generate` one by one", 16, "generate", None, of=1),
        _over("B6g", "Tandem over transformers' continuous batching at 4", 4, "transformers cb", None),
        _over("B6h", "Tandem over transformers' continuous batching at 32", 32, "transformers cb", None),
    ))
