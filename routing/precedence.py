"""Which queue worker should lead where some of them do not reach MNS: one that does, as the leader sends to the cloud.

A worker that says of itself that it does not reach MNS, while another says that it does, gives up the lead and leaves it to
that one; but for two rounds only if nobody takes it, as the other may be dead. It leads without the cloud then, and tries
again now and then.
"""

from app import cloud_state
from app.cloud_registry import CloudRegistry

_PATIENCE = 2  # rounds: in the first another may have looked already
_AGAIN = 30  # rounds


class Precedence:
    """Whether `who`, a queue worker, is to leave the lead to another."""

    def __init__(self, registry: CloudRegistry, who: str) -> None:
        self._registry = registry
        self._who = who
        self._left = 0  # rounds in which the lead was left to another

    def leaves_it(self) -> bool:
        """Tell whether not to lead in this round. Raises `StoreUnavailable`."""
        stand = cloud_state.reaching(self._registry.links())
        if stand.get(self._who, True) or not any(stand.values()):
            self._left = 0
            return False
        self._left += 1
        return (self._left - 1) % _AGAIN < _PATIENCE

    def another_leads(self) -> None:
        """Another has taken it: there is every reason to leave it to that one again."""
        self._left = 0
