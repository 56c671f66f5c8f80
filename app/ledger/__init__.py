"""The job ledger: records, waiting sets, leases and the transitions between states."""

from app.ledger.ledger import Census, Claim, Ending, Ledger, Place, Settled, Submission, Submitted, new_owner

__all__ = ["Census", "Claim", "Ending", "Ledger", "Place", "Settled", "Submission", "Submitted", "new_owner"]
