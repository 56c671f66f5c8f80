"""The transports for kombu: `mns://` speaks HTTP, `mnss://` HTTPS.

    mns://[ACCESS_KEY_ID:SECRET@]ACCOUNT.mns.REGION.aliyuncs.com[:PORT]

Options, in kombu's `transport_options`: see `options.Options`. Keys: see `credentials.find`.

Its threads: one for each consumed queue that polls (`pollers`), one that keeps what is held from others (`leases`).
Publishing and acknowledging may be done from any thread. Delivery is at least once and in no order, as in MNS itself.
"""

import atexit
import logging
import os
import time
import weakref
from typing import Any

from kombu.transport import virtual
from mns import pkg_info

from routing.mns import credentials
from routing.mns.channel import Channel
from routing.mns.errors import NotAllowed, Refused, ServiceFailed, Throttled, Transient, Unreachable, Unroutable
from routing.mns.figures import Figures
from routing.mns.http import tls_context
from routing.mns.inbox import Inbox, worker_is_stopping
from routing.mns.keys import CredentialsUnusable
from routing.mns.leases import Leases
from routing.mns.link import Link
from routing.mns.options import Options
from routing.mns.patience import patiently
from routing.mns.queues import Queues
from routing.mns.service import Service
from routing.mns.stores import StoreUnavailable, open_store

_log = logging.getLogger(__name__)

_ANSWERED = (ServiceFailed, Throttled)  # who does not answer at all is not asked again here: kombu and Celery do that


class Transport(virtual.Transport):  # type: ignore[misc]
    """MNS over HTTP, or over HTTPS if the connection's `ssl` is set."""

    Channel = Channel
    driver_type = "mns"
    driver_name = "aliyun-mns-sdk"
    # On these Celery makes a new connection. What is refused is among them, for somebody may put it right meanwhile
    connection_errors = (*virtual.Transport.connection_errors, Transient, Refused, CredentialsUnusable)
    channel_errors = (*virtual.Transport.channel_errors, Unroutable, StoreUnavailable)
    # without these two kombu's retry of a publication ends at the second error in a row, whatever its policy says
    recoverable_connection_errors = connection_errors
    recoverable_channel_errors = (StoreUnavailable,)
    implements = virtual.Transport.implements.extend(asynchronous=False, exchange_type=frozenset(["direct"]))
    default_port = None
    _secure = False

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self._options = Options.of(client.transport_options)
        self.pid = os.getpid()  # in a process forked from this one, only publishing works
        self._link: Link | None = None

    @property
    def link(self) -> Link:
        """What the channels share. Raises Unreachable before the connection is made and after it is closed."""
        if self._link is None:
            raise Unreachable("the connection to MNS is closed")
        return self._link

    @property
    def figures(self) -> Figures:
        """What this transport has done so far."""
        return self._options.figures

    def establish_connection(self) -> "Transport":
        """See that the service can be reached and takes the keys. Raises Unreachable, WrongKey, ClockSkew and the like."""
        if self._link is None:
            self._link = self._make_link()
        try:
            patiently(lambda: self.link.service.probe(self._options.queue_name_prefix), attempts=3, on=_ANSWERED)
        except NotAllowed as exc:
            _log.debug("the keys are good, though they do not allow to list queues: %s", exc)
        except BaseException:
            self.link.service.http.close()
            self._link = None
            raise
        _open.add(self)
        self._avail_channels.append(self.create_channel(self))
        return self

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:  # noqa: ARG002
        """Wait for one message and deliver it. Raises TimeoutError, and what keeps the pollers from receiving."""
        if self.pid != os.getpid():
            raise Unreachable(f"this connection was made by process {self.pid}, from which this one was forked; make a "
                              "new one")
        try:
            delivery = self.link.inbox.get(timeout)
        except TimeoutError:
            if worker_is_stopping():  # so that the poll in flight ends while the worker's pool does
                self._stop_polling()
            raise
        delivery.channel.deliver(delivery)

    def close_connection(self, connection: Any) -> None:  # noqa: ARG002 - as kombu calls it
        """Give back all that is held, and end the threads, within the option `close_within_s`."""
        _open.discard(self)
        until = time.monotonic() + self._options.close_within_s
        channels = list(self.channels)
        self._avail_channels.clear()
        ours = self.pid == os.getpid()
        if ours:
            self._stop_polling()
        for channel in channels:
            channel.close(until)
        link, self._link = self._link, None
        if link is not None and ours:
            link.leases.stop()
            link.service.http.close()

    def driver_version(self) -> str:
        """Return the version of the SDK."""
        return str(pkg_info.version)

    def _stop_polling(self) -> None:
        for channel in self.channels:
            channel.stop_polling()

    def _make_link(self) -> Link:
        options, client = self._options, self.client
        provider = credentials.find(user=client.userid, password=client.password, credentials=options.credentials,
                                    file=options.credentials_file)
        secure = self._secure or bool(client.ssl)
        service = Service(self._host(), credentials=provider, tls=tls_context(options.ca_file) if secure else None,
                          connect_timeout_s=options.connect_timeout_s, answer_timeout_s=options.answer_timeout_s,
                          figures=options.figures)
        store = open_store(options.store, provider) if isinstance(options.store, str) else options.store
        queues = Queues(service, visibility_s=options.visibility_s, create_missing=options.create_missing)
        leases = Leases(service, visibility_s=options.visibility_s, longest_s=options.max_lease_seconds, store=store,
                        figures=options.figures, on_lost=options.on_lease_lost)
        return Link(options=options, service=service, queues=queues, leases=leases, store=store, inbox=Inbox())

    def _host(self) -> str:
        host = self.client.hostname or "localhost"
        if ":" in host:
            host = f"[{host}]"
        return f"{host}:{self.client.port}" if self.client.port else host

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """As kombu asks."""
        return {"hostname": "localhost"}


class SecureTransport(Transport):
    """MNS over HTTPS."""

    _secure = True


_open: "weakref.WeakSet[Transport]" = weakref.WeakSet()  # those that this process has open


@atexit.register
def _close_all() -> None:
    """A process that ends without closing its connections still gives back what it holds."""
    for transport in list(_open):
        transport.close_connection(transport)
