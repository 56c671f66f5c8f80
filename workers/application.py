"""The Celery application of the servers. `workers.celery` makes the one that `celery -A workers` uses.

Redis is the broker. A message is a wake-up and nothing more, so it is taken without acknowledgement (`no_ack`): a wake-up
that dies with its worker is pushed again by recovery, and the ledger, not the message, says what became of the job.
"""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from celery import Celery
from kombu import Exchange, Queue

from app.job import Service
from app.settings import Settings
from workers.events import PacedEvents

TASK_MODULES = ("workers.tasks.auth", "workers.tasks.model", "workers.tasks.chat", "workers.tasks.cache",
                "workers.tasks.queue", "workers.tasks.cache_warming", "workers.tasks.chat_title")

#: The broker must answer within this time, or the connection counts as lost (reliability: a hung Redis hangs us not).
_SOCKET_TIMEOUT_S = 5


def make_app(settings: Settings) -> Celery:
    """Return the application for these settings. It connects to nothing yet."""
    app = Celery("tandem", broker=broker_url(settings.redis_url), include=TASK_MODULES,
                 backend="workers.backend:LedgerBackend")
    app.conf.update(configuration(settings))
    app.steps["consumer"].add(PacedEvents)
    app.tandem_settings = settings
    return app


def broker_url(redis_url: str) -> str:
    """Return kombu's spelling of a Redis URL: a socket's scheme is `redis+socket` there, its database `virtual_host`."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url or "memory://"
    database = dict(parse_qsl(parts.query)).get("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


def configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration; the reasons are in the comments."""
    queues = [Queue(service.value, Exchange(""), routing_key=service.value, no_ack=True) for service in Service]
    return {
        "task_queues": queues,
        "task_default_exchange": "",
        "task_serializer": "json", "result_serializer": "json", "accept_content": ["json"],  # never pickle
        "broker_transport_options": {
            "socket_timeout": _SOCKET_TIMEOUT_S, "socket_connect_timeout": 2, "socket_keepalive": True,
            "health_check_interval": 5, "visibility_timeout": 60, "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1, "unacked_mutex_expire": 10, "master_name": settings.redis_master_name,
            "sentinel_kwargs": {"socket_timeout": 0.5},
        },
        "broker_connection_max_retries": None,  # wait for the broker for as long as it takes
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,  # a demoted master answers with a channel error
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # the lease decides, not the connection
        "task_acks_late": False,
        "worker_disable_prefetch": True,  # jobs wait in the ledger, where they can be seen and moved
        "worker_prefetch_multiplier": 1,
        "worker_pool": "workers.pool:TaskPool",
        "worker_consumer": "workers.consumer:ServiceConsumer",
        "task_ignore_result": True,  # the ledger holds the results; the backend only reads them
        "worker_enable_remote_control": True,  # without it a worker can go deaf after a broker restart
        "task_track_started": True,
        "worker_soft_shutdown_timeout": settings.shutdown_s,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "enable_utc": True,
        "timezone": "UTC",
        "broker_pool_limit": 50,  # Flower asks all workers ten things at once, each on a connection of its own
    }
