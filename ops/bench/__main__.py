"""The command line of `make bench`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import TandemError
from ops import embedded_redis
from ops.bench import chart, engine_profile, hot_path, machine, programs, report, rounds, wrk
from ops.bench.figures import Figures
from ops.bench.rows import ROWS, Row
from ops.bench.subjects.peer import HOME

_PUBLISHED = Path(__file__).parent
_HOT_ROWS, _ENGINE_ROWS = ("B1", "B2", "B3"), ("B6", "B9")  # a missed aim of these is explained by a profile


def main(arguments: Sequence[str]) -> int:
    """Measure, or profile; return the exit status."""
    programs.interruptible()
    try:
        if arguments[:2] == ["profile", "engine"]:
            return engine_profile.main(arguments[2:])
        if arguments[:1] == ["profile"]:
            return hot_path.main(arguments[1:])
        return _measure(arguments)
    except (TandemError, TimeoutError, OSError, RuntimeError) as exc:
        print(f"\nnot measured: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted; what was started is stopped, and nothing was written", file=sys.stderr)
    return 1


def _measure(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    rows = [row for name, row in ROWS.items() if name in chosen.rows] or list(ROWS.values())
    out: Path = chosen.out or (_PUBLISHED if len(rows) == len(ROWS) else HOME)
    if any(row.name in ("B1", "B2") for row in rows):
        wrk.check_installed()
    embedded_redis.find_program()
    figures = rounds.measure(rows, rounds=chosen.rounds, seconds=chosen.seconds, home=HOME)
    ordered = sorted(rows, key=lambda row: int(row.name[1:]))
    why = [hot_path.profile(chosen.seconds)] if _missed(ordered, figures, _HOT_ROWS) else []
    why += [engine_profile.profile()] if _missed(ordered, figures, _ENGINE_ROWS) else []
    out.mkdir(parents=True, exist_ok=True)
    text = report.text(ordered, figures, machine.describe(arguments, figures.busy_percent), "\n\n".join(why))
    (out / "RESULTS.md").write_text(text, encoding="utf-8")
    (out / report.CHART).write_text(chart.svg(ordered, figures), encoding="utf-8")
    print(f"\n{text}\nwritten to {out / 'RESULTS.md'}")
    return 0


def _missed(rows: Sequence[Row], figures: Figures, names: Sequence[str]) -> bool:
    return any(ratio.met(figures.ratio(row, ratio).median) is False
               for row in rows if row.name in names for ratio in row.ratios)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench", description="Measure Tandem against its peers and write RESULTS.md. "
        "`python -m ops.bench profile` tells where the gateway's time goes, `... profile engine` where the engine's.")
    parser.add_argument("rows", nargs="*", type=_row, help=f"of {', '.join(sorted(ROWS))}; default: all of them")
    parser.add_argument("--rounds", type=_count, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each figure of B1 to B3 in a round; default 8")
    parser.add_argument("--out", type=Path,
                        help=f"folder to write to; default ops/bench, or {HOME} when only some rows run")
    return parser


def _row(name: str) -> str:
    if name.upper() not in ROWS:
        raise argparse.ArgumentTypeError(f"there is no row '{name}'; there are {', '.join(sorted(ROWS))}, and profile")
    return name.upper()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got '{text}'")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
