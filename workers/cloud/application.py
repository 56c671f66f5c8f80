"""The Celery application of a cloud worker: its broker is MNS, and nothing else is reached by it."""

from dataclasses import replace
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from app.settings import Settings
from app.topology import Topology
from routing import mns
from routing.cloud.broker import RUN_TASK, jobs_queue, transport_options
from workers.cloud import boot, run

_LAST_WAIT_S = 3.0  # a last wait for MNS to take what was given back


def make_app(settings: Settings, plan: Topology) -> Celery:
    """Return the application for these settings. It connects to nothing yet, and to Redis never."""
    mns.install()
    app = Celery("tandem-cloud", broker=settings.mns_url or "memory://", backend="workers.cloud.absent:NoResults",
                 control="workers.cloud.absent:NoControl")
    app.conf.update(configuration(settings, plan))
    app.task(name=RUN_TASK, bind=True, Request="workers.cloud.consuming:ErrandRequest")(run.entry)
    app.tandem_settings = replace(settings, redis_url="")  # a checkout may have one running, which is not ours
    app.tandem_cloud = plan
    return app


def configuration(settings: Settings, plan: Topology) -> dict[str, Any]:
    """Return Celery's configuration; the reasons are in the comments."""
    queue = jobs_queue(settings)
    return {
        "task_queues": [Queue(queue, Exchange(""), routing_key=queue)],
        "task_default_queue": queue, "task_default_exchange": "", "task_default_routing_key": queue,
        "task_serializer": "json", "result_serializer": "json", "accept_content": ["json"],  # never pickle
        "broker_transport_options": {**transport_options(settings), "on_lease_lost": boot.lease_lost},
        "broker_connection_max_retries": None,  # wait for the broker for as long as it takes
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,  # one answer of MNS that makes no sense is no reason to die
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # home's lease decides, not the connection
        "task_acks_late": True,  # a message outlives its worker
        "task_acks_on_failure_or_timeout": True,
        "worker_prefetch_multiplier": 1,  # an errand waits where any worker can take it
        "worker_concurrency": plan.cloud.concurrency if plan.cloud else None,
        "worker_pool": "workers.cloud.consuming:ErrandPool",
        "worker_consumer": "workers.cloud.consuming:ErrandConsumer",
        "task_ignore_result": True,  # reports go home, results with them
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "worker_soft_shutdown_timeout": settings.shutdown_s + _LAST_WAIT_S,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_hijack_root_logger": False,
        "enable_utc": True,
        "timezone": "UTC",
    }
