"""`python -m ops.bench profile engine`: where the time of the torch engine goes while it answers 16 requests."""

import argparse
from collections.abc import Sequence

from ops.bench.rounds import running
from ops.bench.rows.tokens import load
from ops.bench.subjects.engine import Engine
from ops.bench.subjects.peer import HOME

_REQUESTS = 16


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    argparse.ArgumentParser(prog="python -m ops.bench profile engine", description=__doc__).parse_args(arguments)
    print(profile())
    return 0


def profile() -> str:
    """Measure, and return the tables as Markdown."""
    engine = Engine()
    engine.prepare()
    with running(engine, HOME / "run" / "profile-engine"):
        seen = engine.write(load(engine, _REQUESTS, profiled=True))
    tokens = sum(answer.tokens for answer in seen.all_answers)
    return f"{_REQUESTS} requests, {tokens:,} tokens written in {seen.took_s:.1f} s.\n\n{seen.profile}"
