"""Whether this machine may use its queues in MNS, asked once, before a worker takes its first errand."""

import logging
import time

from app import logs
from app.errors import SettingsError
from app.settings import Settings
from routing.cloud import broker
from routing.mns.errors import MnsError, Transient
from routing.mns.patience import Backoff

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0  # between two tries


def check(settings: Settings) -> None:
    """Return when MNS has let us at the queues, however long it is away. Raises `SettingsError` when it refuses us."""
    if not settings.mns_url:
        raise SettingsError(["mns_url is missing, which a cloud worker needs: set TANDEM_MNS_URL to mns://HOST[:PORT], or "
                             "to mnss://HOST for TLS"])
    backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while True:
        try:
            _declare(settings)
        except (Transient, OSError) as exc:
            pause_s = backoff.pause_s()
            logs.event("mns_unreachable", level=logging.WARNING, why=str(exc), again_in_s=round(pause_s, 1))
            time.sleep(pause_s)
        except MnsError as exc:
            raise SettingsError([f"MNS refuses this worker: {exc}"]) from exc
        else:
            return


def _declare(settings: Settings) -> None:
    with broker.connected(settings) as connection:
        channel = connection.channel()
        for queue in (broker.jobs_queue(settings), broker.results_queue(settings)):
            channel.queue_declare(queue)
