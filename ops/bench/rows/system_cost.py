"""B7: what HTTP, queue and worker cost over the bare engine."""

from ops.bench.rows.row import Ratio, Row, Series
from ops.bench.rows.tokens import greedy, prompt, write
from ops.bench.subjects import Writer
from ops.bench.writing import Load

_CALLERS, _REQUESTS = 16, 2
_SHORTEST, _STEP = 24, 2  # tokens of an answer


def measure(writer: Writer, _seconds: float) -> dict[str, float]:
    """Let callers ask one thing after another, for answers of differing lengths."""
    load = Load(callers=[[greedy(prompt(writer, caller + at), _SHORTEST + _STEP * ((caller + 5 * at) % _CALLERS))
                          for at in range(_REQUESTS)] for caller in range(_CALLERS)])
    return {f"tokens/s of {_CALLERS} callers": write(writer, load).tokens_per_s}


ROW = Row(
    name="B7", title="tokens/s of the whole", measure=measure, subjects=("engine", "service"),
    how=f"model and texts as in B6; {_CALLERS} callers, each with {_REQUESTS} requests one after another, for {_SHORTEST} "
        f"to {_SHORTEST + _STEP * (_CALLERS - 1)} tokens. Through the service: `POST /v1/jobs` with `Prefer: wait`.",
    ratios=(
        Ratio(name="B7a", says="Tandem over its engine alone", at_least=0.95,
              over=Series("service", f"tokens/s of {_CALLERS} callers"),
              under=Series("engine", f"tokens/s of {_CALLERS} callers")),
    ))
