"""The job ledger: records, waiting sets, leases and the transitions between states."""

from app.ledger.cloud import CloudLedger
from app.ledger.ledger import Ledger, new_owner
from app.ledger.records import (
    Cap,
    Census,
    Claim,
    CloudSaying,
    Ending,
    Limit,
    Page,
    Piece,
    Place,
    Said,
    Saying,
    Settled,
    Shortage,
    Spend,
    Stop,
    Submission,
    Submitted,
    Voice,
)

__all__ = ["Cap", "Census", "Claim", "CloudLedger", "CloudSaying", "Ending", "Ledger", "Limit", "Page", "Piece", "Place",
           "Said", "Saying", "Settled", "Shortage", "Spend", "Stop", "Submission", "Submitted", "Voice", "new_owner"]
