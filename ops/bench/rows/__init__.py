"""The rows, in the order in which they are asked: one that leaves a pile of waiting jobs comes last. A new one is a file
here and a line below."""

from ops.bench.rows import conversations, polls, streams, submits, system_cost, throughput, tokens
from ops.bench.rows.row import Difference, Ratio, Row, Series

__all__ = ["ROWS", "Difference", "Ratio", "Row", "Series"]

ROWS: dict[str, Row] = {module.ROW.name: module.ROW for module in (
    polls, throughput, submits, tokens, system_cost, streams, conversations)}
