"""The job ledger: records, waiting sets, leases and the transitions between states."""

from app.ledger.ledger import Ledger, new_owner
from app.ledger.records import (
    Census,
    Claim,
    Ending,
    Limit,
    Page,
    Piece,
    Place,
    Said,
    Saying,
    Settled,
    Shortage,
    Submission,
    Submitted,
    Voice,
)

__all__ = ["Census", "Claim", "Ending", "Ledger", "Limit", "Page", "Piece", "Place", "Said", "Saying", "Settled",
           "Shortage", "Submission", "Submitted", "Voice", "new_owner"]
