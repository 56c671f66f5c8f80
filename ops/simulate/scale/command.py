"""The command line of the page on scale."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app import topology
from app.settings import Settings
from ops import embedded_redis
from ops.simulate.scale import idle_stack, leader, overload, page, picture, redis_cost

_HERE = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    """Measure and write; return the exit status."""
    chosen = _parser().parse_args(arguments)
    _, plan = topology.load({}, embedded=False)
    runs = overload.runs(plan, chosen.servers)
    with tempfile.TemporaryDirectory(prefix="tandem-scale-") as folder:
        server = embedded_redis.start(Path(folder) / "redis")
        try:
            settings = Settings(redis_url=server.url, data_dir=Path(folder))
            costs = redis_cost.measure(settings, jobs=chosen.jobs)
            loads = [redis_cost.load(settings, callers=callers, seconds=chosen.seconds) for callers in (2, 16, 64)]
            rounds = [leader.measure(settings, plan, servers=servers) for servers in chosen.servers]
        finally:
            server.stop()
        idle = None if chosen.no_stack else idle_stack.measure(Path(folder) / "stack", seconds=chosen.seconds)
    figures = page.Figures(runs=runs, costs=costs, loads=loads, rounds=rounds, idle=idle)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "SCALE.md").write_text(page.text(figures), encoding="utf-8")
    picture.draw(figures, chosen.out / page.PICTURE)
    print(f"written to {chosen.out / 'SCALE.md'} and {chosen.out / page.PICTURE}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.simulate scale", description="Write the page on scale.")
    parser.add_argument("--servers", type=int, nargs="+", default=[2, 8, 64], help="default 2 8 64")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each load; default 5")
    parser.add_argument("--jobs", type=int, default=2000, help="for the cost of each script; default 2000")
    parser.add_argument("--no-stack", action="store_true", help="start no stack to see what idle servers ask of Redis")
    parser.add_argument("--out", type=Path, default=_HERE, help="folder to write to; default ops/simulate")
    return parser
