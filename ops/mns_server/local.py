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
from ops.mns_server.journal import Forgetful, Journal
from ops.mns_server.keys import Key, Keys
from ops.mns_server.service import NOTHING, Service
from ops.mns_server.store import Store

ACCOUNT = "1234567890123456"


class LocalMns:
    """A running server. Make it with `running`, or with `start` and then `close`.

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
        self._journal: Journal
        self._journal, memory = Store.open(data) if data else (Forgetful(), NOTHING)
        with contextlib.ExitStack() as undo:
            undo.callback(self._journal.close)
            self.service = Service(self._journal, memory=memory, account=account, clock=clock or real)
            undo.callback(self.service.close)
            self.admission = Admission(self.keys)
            self.api = Api(self.service, admission=self.admission, faults=self.faults)
            self.api.operations.counters_zero = counters == "zero"
            self._data = HttpServer(self.api.answer, host=host, port=port, name="mns")
            undo.callback(self._data.close)
            self._admin = HttpServer(Admin(self).answer, host=host, port=admin_port, name="mns-admin")
            undo.callback(self._admin.close)
            self.port, self.admin_port = self._data.port, self._admin.port
            self._objects = None if objects_port is None else self._serve_objects(objects_port, data, retention_s)
            undo.pop_all()
        self.objects_port = self._objects.port if self._objects else None

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
        return objects.serve(self._host, port, folder, lambda: [(key.id, key.secret, key.token) for key in self.keys.all()],
                             retention_s=retention_s)

    def audit(self, queue: str | None = None) -> dict[str, int]:
        """Return sent, deleted, dead, expired, active, inactive and delayed of a queue, or of all together."""
        return self.service.audit(queue)

    def requests(self) -> dict[str, int]:
        """Return how many requests came in, by operation."""
        return self.api.requests

    def close(self) -> None:
        """Take no more requests, answer those under way (receives that wait: empty), and let go of ports and file."""
        self.api.close()
        self.service.close()
        self._data.close()
        self._admin.close()
        if self._objects:
            self._objects.close()
        self._journal.close()
