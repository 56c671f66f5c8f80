"""How both sides, home and cloud, reach their queues in MNS: one URL, one set of options, and the queues' names."""

from typing import Any

from kombu import Connection

from app.settings import Settings
from routing.mns import install

#: The Celery tasks of the messages.
RUN_TASK = "cloud.run"  # home -> cloud: an errand
REPORT_TASK = "cloud.report"  # cloud -> home: a report
STOP_TASK = "cloud.stop"  # home -> one cloud worker: tickets that are void

LONGEST_LEASE_S = 3 * 3600.0  # a job that runs longer than this in the cloud is given up
_WAIT_S = 20  # of a long poll
_MOST_RECEIVES = 20  # times that a message is taken before it is put aside: it may be what kills its taker. Each worker
# that stops and gives it back counts, too, and a job whose run its worker did not survive comes home before long


def jobs_queue(settings: Settings) -> str:
    """The queue of errands, for all cloud workers."""
    return f"{settings.mns_prefix}-jobs"


def results_queue(settings: Settings) -> str:
    """The queue of reports, for the queue service at home."""
    return f"{settings.mns_prefix}-results"


def stops_queue(settings: Settings, worker: str) -> str:
    """The queue of void tickets of one cloud worker, which has a Celery node name."""
    return f"{settings.mns_prefix}-stops-{worker}"


def dead_queue(queue: str) -> str:
    """Where what cannot be used is put aside: by the transport what was taken too often, by us what cannot be meant."""
    return f"{queue}-dead"


def transport_options(settings: Settings) -> dict[str, Any]:
    """Return kombu's options for the transport `routing.mns`."""
    return {
        "visibility_timeout": settings.mns_visibility_s, "wait_time_seconds": _WAIT_S,
        "max_lease_seconds": LONGEST_LEASE_S, "max_receives": _MOST_RECEIVES,
        "create_missing": settings.mns_create_queues, "credentials_file": settings.mns_credentials or None,
        "store": settings.cloud_store or None,
    }


def connection(settings: Settings, **options: Any) -> Connection:
    """Return a connection, not yet made, with these options over the usual ones. `settings.mns_url` must be set."""
    install()
    return Connection(settings.mns_url, transport_options=transport_options(settings) | options)


def connected(settings: Settings, **options: Any) -> Connection:
    """Return a connection that is made, with one try. Raises what the transport does where MNS is not reached, or does not
    take the keys."""
    made = connection(settings, **options)
    made.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    return made
