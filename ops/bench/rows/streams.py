"""B8: when the text comes, through server-sent events and from the engine alone."""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from ops.bench.errors import NotAsPromised
from ops.bench.rows.row import Difference, Row, Series
from ops.bench.rows.tokens import greedy, write
from ops.bench.subjects import Writer
from ops.bench.writing import Answer, Load

_CALLERS, _REQUESTS = 4, 8
_PAUSE_S = 0.5  # longer than a step: without pauses, the engine's own callers would all ask at the end of one
_WORDS = 24
_SHORTEST, _LENGTHS = 16, 9  # tokens of an answer: 16 to 24, so that the callers do not fall into step


def measure(writer: Writer, _seconds: float) -> dict[str, float]:
    """Listen to several answers at once."""
    load = Load(listening=True, longest_pause_s=_PAUSE_S, callers=[
        [greedy(writer.words(_WORDS), _SHORTEST + (4 * caller + 5 * at) % _LENGTHS) for at in range(_REQUESTS)]
        for caller in range(_CALLERS)])
    return moments(write(writer, load).all_answers)


def moments(answers: Sequence[Answer]) -> dict[str, float]:
    """Return what is quoted of when the pieces of these answers came, in ms. Raises `NotAsPromised` where one had no
    pieces."""
    if silent := sum(len(answer.told_s) < 2 for answer in answers):
        raise NotAsPromised(f"{silent} of {len(answers)} answers did not come in pieces")
    first = [1000 * answer.told_s[0] for answer in answers]
    gaps = [1000 * (later - earlier) for answer in answers for earlier, later in pairwise(answer.told_s)]
    token = [1000 * (answer.told_s[-1] - answer.told_s[0]) / (answer.tokens - 1) for answer in answers]
    return {"first text p50 ms": _percentile(first, 50), "first text p95 ms": _percentile(first, 95),
            "gap p50 ms": _percentile(gaps, 50), "gap p95 ms": _percentile(gaps, 95),
            "mean of a token ms": statistics.mean(token)}


def _percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that so many per cent of the values do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def _added(name: str, says: str, figure: str, at_most: float | None = None) -> Difference:
    return Difference(name=name, says=f"Tandem adds to its engine alone, {says}", at_most=at_most,
                      over=Series("service", figure), under=Series("engine", figure))


ROW = Row(
    name="B8", title="streaming", measure=measure, subjects=("engine", "service"),
    how=f"model as in B6; {_CALLERS} callers, each with {_REQUESTS} requests one after another, texts of {_WORDS} words, "
        f"answers of {_SHORTEST} to {_SHORTEST + _LENGTHS - 1} tokens; before each a pause of up to {_PAUSE_S} s, the same "
        "for both subjects, so that it comes at any moment of a step, as requests do. Through the service: from the first "
        "byte of `POST /v1/jobs` to the first `token` event of `GET /v1/jobs/{id}/events`, which is opened once the submit "
        "is answered, and from event to event; from the engine alone: from the call to the first `tell`, and from one to "
        "the next. An event may hold several tokens, as text is gathered for 30 ms before it is sent; so the mean of a "
        "token is the time from the first piece to the last over the tokens.",
    ratios=(
        _added("B8a", "first text, p50", "first text p50 ms", 15),
        _added("B8b", "between two pieces, p50", "gap p50 ms", 15),
        _added("B8c", "first text, p95", "first text p95 ms"),
        _added("B8d", "between two pieces, p95", "gap p95 ms"),
        _added("B8e", "a token, mean", "mean of a token ms"),
    ))
