"""`make down`: stops everything that `make up` started. Running jobs get their time to end; what does not end in time goes
back to the queue, and the data stays in var/."""

import sys

from app import topology
from app.errors import TandemError
from ops.stack import Files, Supervisors


def main() -> int:
    """Stop the stack."""
    try:
        settings, _ = topology.load()
    except TandemError as exc:
        print(exc, file=sys.stderr)
        return 1
    print("stopping: running jobs may end first ...", flush=True)
    stopped = Supervisors(Files(settings.data_dir)).stop()
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
