"""`python -m ops.drill`: every row with the shipped thresholds and times, about forty minutes; writes ops/drill/RESULTS.md.

Exits 1 when a step did not come, or something was not as it should be; the file says what.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app import topology
from app.errors import TandemError
from ops.drill import report
from ops.drill.kept import Kept, Told
from ops.drill.pace import QUICK, SHIPPED, Pace
from ops.drill.parts import OVERLOAD, SIGNALS
from ops.drill.play import play
from ops.drill.scene import laid
from ops.drill.story import Story

_PARTS = (SIGNALS, OVERLOAD)


def main() -> int:
    """Run the command line."""
    chosen = _chosen()
    pace = QUICK if chosen.quick else SHIPPED
    folder = Path(tempfile.mkdtemp(prefix="tandem-drill-"))
    stories: list[Story] = []
    signal.signal(signal.SIGTERM, _end)
    try:
        for number, part in enumerate(_PARTS):
            if not chosen.rows or set(chosen.rows) & set(part.names):
                told = play(part, pace, folder / str(number), only=chosen.rows, tell=_tell)
                stories += told
                if not chosen.quick:  # a part takes its quarter of an hour, so it is kept when it is over
                    _keep(told, pace, folder / "plan")
    except (TandemError, RuntimeError, TimeoutError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    if any(story.faults for story in stories):
        return 1
    shutil.rmtree(folder)
    return 0


def _chosen() -> argparse.Namespace:
    names = [name for part in _PARTS for name in part.names]
    parser = argparse.ArgumentParser(prog="python -m ops.drill", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"only these: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="with short times, as the tests have them; no file is written")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.rows) - set(names)):
        parser.error(f"there is no row {', '.join(unknown)}; there are: {', '.join(names)}")
    return chosen


def _keep(stories: Sequence[Story], pace: Pace, folder: Path) -> None:
    """Keep the stories, and write the file of all that are kept."""
    run = report.run()
    kept = Kept([name for part in _PARTS for name in (*part.names, part.books)])
    _, plan = topology.load(laid(folder, pace).environ, embedded=False)
    told = kept.add([Told.of(story, run) for story in stories])
    report.FILE.write_text(report.written(told, pace, rules=plan.rules), encoding="utf-8")
    print(f"wrote {report.FILE}", flush=True)


def _end(*_: object) -> None:
    """End in order: the stack that runs is to be stopped, too."""
    raise SystemExit(1)


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
