"""The whole server in this process, on threads: the data plane, the admin port, and the objects."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ops.mns_server import objects
from ops.mns_server.admin import Admin
from ops.mns_server.admission import Admission
from ops.mns_server.api import Api
from ops.mns_server.clock import Clock, real
from ops.mns_server.faults import Faults
from ops.mns_server.http_server import HttpServer
from ops.mns_server.journal import Journal
from ops.mns_server.keys import Key, Keys
from ops.mns_server.service import NOTHING, Service
from ops.mns_server.store import Store

ACCOUNT = "1234567890123456"


class LocalMns:
    """A running server. To be closed; `running` does that.

    `port`, `admin_port`, `objects_port` (None without objects), `faults`, `keys` and `service` may be used while it runs.
    """

    def __init__(self, keys: Iterable[Key], *, host: str = "127.0.0.1", port: int = 0, admin_port: int = 0,
                 objects_port: int | None = 0, data: Path | None = None, clock: Clock | None = None,
                 account: str = ACCOUNT, counters: str = "zero", seed: int = 0,
                 retention_s: float = objects.RETENTION_S) -> None:
        """Start it. A port of 0 is a free one; `objects_port` None starts no objects, which else are dropped after
        `retention_s`. Raises `OSError` for a port that is taken, `StoreUnusable` for a data file that is."""
        self.keys, self.faults = Keys(keys), Faults(seed)
        self._host = host
        journal, memory = Store.open(data) if data else (Journal(), NOTHING)
        with contextlib.ExitStack() as ending:
            ending.callback(journal.close)
            self.service = Service(journal, memory=memory, account=account, clock=clock or real)
            ending.callback(self.service.close)
            self.admission = Admission(self.keys)
            self.api = Api(self.service, admission=self.admission, faults=self.faults)
            self.api.operations.counters_zero = counters == "zero"
            data_server = HttpServer(self.api.answer, host=host, port=port, name="mns")
            ending.callback(data_server.close)
            admin_server = HttpServer(Admin(self).answer, host=host, port=admin_port, name="mns-admin")
            ending.callback(admin_server.close)
            self.port, self.admin_port, self.objects_port = data_server.port, admin_server.port, None
            if objects_port is not None:
                object_server = self._serve_objects(objects_port, data, retention_s)
                ending.callback(object_server.close)
                self.objects_port = object_server.port
            ending.callback(self.service.close)  # before the servers, which wait for the answers under way
            ending.callback(self.api.close)
            self._ending = ending.pop_all()

    @classmethod
    @contextlib.contextmanager
    def running(cls, keys: Iterable[tuple[str, ...]] = (("test-id", "test-secret"),), *, data: Path | None = None,
                clock: Clock | None = None, objects: bool = True, port: int = 0, counters: str = "zero",
                seed: int = 0) -> Iterator["LocalMns"]:
        """Run it for as long as the block takes. A key is (id, secret) or (id, secret, security token)."""
        mns = cls([Key(*key) for key in keys], data=data, clock=clock, objects_port=0 if objects else None, port=port,
                  counters=counters, seed=seed)
        try:
            yield mns
        finally:
            mns.close()

    @property
    def url(self) -> str:
        """The broker's URL for the transport."""
        return f"mns://{self._host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The endpoint for the SDK."""
        return f"http://{self._host}:{self.port}"

    def _serve_objects(self, port: int, data: Path | None, retention_s: float) -> objects.ObjectServer:
        folder = data.with_name(f"{data.stem}-objects") if data else None
        return objects.ObjectServer(self._host, port, folder, retention_s=retention_s,
                                    keys=lambda: [(key.id, key.secret, key.token) for key in self.keys.all()])

    def audit(self, queue: str | None = None) -> dict[str, int]:
        """Return sent, deleted, dead, expired, active, inactive and delayed of a queue, or of all together."""
        return self.service.audit(queue)

    def requests(self) -> dict[str, int]:
        """Return how many requests came in, by operation."""
        return self.api.requests

    def close(self) -> None:
        """Take no more requests, answer those under way (receives that wait: empty), and let go of ports and file."""
        self._ending.close()
