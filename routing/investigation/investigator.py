"""Contributes to reports: a part of each worker of the queue service. Each sees its own server; whichever leads, the whole.

The parts come on their own, so what a server that hangs would say holds up no other.
"""

import time

from app import logs
from app.investigations import Investigations
from app.ledger import Ledger
from app.registry import Registry
from app.rounds import Rounds
from app.settings import Settings
from app.store import open_redis
from app.topology import Topology
from routing.investigation import server, system

_LOOK_S = 1.0  # how often new reports are looked for
_LEASE_S = 15.0  # who began to look at the whole, and is silent for so long, is replaced


class Investigator:
    """Looks for reports that are asked for, in two threads of its own, and contributes. `who` is the worker's name."""

    def __init__(self, settings: Settings, plan: Topology, *, who: str) -> None:
        self._client = client = open_redis(settings)
        self._settings = settings
        self._servers = tuple(each.name for each in plan.servers)
        self._who = who
        self._investigations = Investigations(client)
        self._registry = Registry(client)
        self._ledger = Ledger(client, settings)
        self._rounds = [Rounds(self.see_server, every_s=_LOOK_S, name="investigation-server", who=who),
                        Rounds(self.see_whole, every_s=_LOOK_S, name="investigation-whole", who=who)]

    def start(self) -> None:
        """Begin."""
        for each in self._rounds:
            each.start()

    def stop(self) -> None:
        """Begin nothing new."""
        for each in self._rounds:
            each.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began."""
        end_s = time.monotonic() + timeout_s
        for each in self._rounds:
            each.join(max(end_s - time.monotonic(), 0.0))
        self._client.close()

    def see_server(self) -> None:
        """Contribute what is seen of this server to the reports that want it. Raises `StoreUnavailable`."""
        for report_id in self._investigations.pending(self._settings.server):
            began_s = time.monotonic()
            part = server.look(self._registry, self._settings.server, now_ms=self._investigations.now_ms())
            kept = self._investigations.contribute(report_id, self._settings.server, part)
            self._note(report_id, self._settings.server, began_s, kept)

    def see_whole(self) -> None:
        """Contribute what is seen of the whole to the reports that want it, if this is the leader. Raises
        `StoreUnavailable`."""
        for report_id in self._investigations.pending_system():
            if not self._ledger.lead("investigation", self._who, _LEASE_S):
                return
            began_s = time.monotonic()
            part = system.look(self._client, self._settings, self._servers, who=self._who,
                               now_ms=self._investigations.now_ms())
            self._note(report_id, "system", began_s, self._investigations.contribute_system(report_id, part))

    def _note(self, report_id: str, part: str, began_s: float, kept: bool) -> None:
        if kept:
            logs.event("investigation_contributed", investigation=report_id, part=part, worker=self._who,
                       took_s=round(time.monotonic() - began_s, 3))
