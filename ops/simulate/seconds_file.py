"""Every second of a run as a CSV file, for a spreadsheet or a notebook."""

import csv
from pathlib import Path

from ops.simulate.record import Run, Second


def write(run: Run, path: Path) -> None:
    """Write the file: a row a second, a column for each server's CPU."""
    plain = [name for name in Second._fields if name != "cpu"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["second", *plain, *(f"cpu_{server}" for server in run.servers)])
        for number, second in enumerate(run.seconds):
            row = second._asdict()
            writer.writerow([number, *(row[name] for name in plain), *second.cpu])
