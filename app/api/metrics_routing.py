"""The metrics of routing: signals and their levels, servers, what leaves for the cloud and what that costs, alerts and
their delivery. What is not known, and all that only a leader's round says where none speaks, is left out."""

from collections import Counter
from collections.abc import Iterator

import redis
from prometheus_client.core import Metric

from app.alert_delivery import AlertDelivery, HookFigures
from app.api.metrics_family import counter, gauge
from app.investigations import Investigations
from app.routing_records import BreakerState, Level, Standing
from app.routing_view import AlertView, FlowView, RoutingView, SpendView

_LEVELS = {level: number for number, level in enumerate((Level.NORMAL, Level.WARNING, Level.ALERT))}


def collect(view: RoutingView, client: redis.Redis) -> Iterator[Metric]:
    """Return them, where routing stands so. Raises `StoreUnavailable`."""
    yield gauge("tandem_routing_paused", "1 while an operator has paused routing", [((), int(view.mode.paused))], ())
    yield from _of_alerts(view.alerts)
    yield from _of_delivery(AlertDelivery(client).figures())
    yield gauge("tandem_investigations_kept", "Reports of investigations that are kept",
                [((), Investigations(client).count())], ())
    if view.leader is None:
        return
    yield gauge("tandem_routing_leader_epoch", "Grows by one with each queue worker that comes to lead",
                [((view.leader.worker,), view.leader.epoch)], ("worker",))
    yield gauge("tandem_routing_acting", "1 while what is decided is done", [((), int(view.leader.acting))], ())
    yield from _of_signals(view)
    yield from _of_servers(view)
    if view.flow:
        yield from _of_flow(view, view.flow)
    if view.spend:
        yield from _of_spend(view.spend)


def _of_signals(view: RoutingView) -> Iterator[Metric]:
    labels = ("signal", "scope")
    yield gauge("tandem_signal", "A signal that has a threshold, in its own unit",
                [((each.signal, each.scope), each.value) for each in view.signals], labels)
    yield gauge("tandem_signal_level", "How a signal stands with its threshold: 0 normal, 1 warning, 2 alert",
                [((each.signal, each.scope), None if each.level is None else _LEVELS[each.level]) for each in view.signals],
                labels)
    yield gauge("tandem_signal_threshold", "The thresholds in effect",
                [((each.signal, each.scope, level), value) for each in view.signals
                 for level, value in (("normal", each.normal), ("alert", each.alert))], (*labels, "level"))


def _of_servers(view: RoutingView) -> Iterator[Metric]:
    yield gauge("tandem_server_standing", "1 for how a server stands, 0 for how it does not",
                [((each.server, standing.value), int(each.standing is standing))
                 for each in view.servers if each.standing for standing in Standing], ("server", "standing"))
    yield gauge("tandem_server_held_services", "Services of which a server takes nothing new",
                [((each.server,), len(each.held)) for each in view.servers], ("server",))


def _of_flow(view: RoutingView, flow: FlowView) -> Iterator[Metric]:
    yield gauge("tandem_routing_share", "Part of the excess that leaves for the cloud in one round", [((), flow.share)], ())
    yield gauge("tandem_queue_wait_seconds", "Estimated wait at home of a job that comes last now",
                [((each.service,), each.wait_s) for each in view.queues], ("service",))
    if view.shed:
        yield gauge("tandem_routing_shed_lanes", "Lanes of which new jobs are refused", [((), len(view.shed.lanes))], ())
    if view.scale:
        yield gauge("tandem_routing_pools_grown", "1 while the pools at home have their largest size",
                    [((), int(view.scale.grown))], ())
        yield gauge("tandem_cloud_workers_wanted", "Cloud workers that there should be; absent: as many as there are",
                    [((), view.scale.cloud_workers)], ())
    if view.breaker:
        yield gauge("tandem_cloud_breaker_state", "1 for the state of the breaker before the cloud, 0 for the others",
                    [((state.value,), int(view.breaker.state is state)) for state in BreakerState], ("state",))


def _of_spend(spend: SpendView) -> Iterator[Metric]:
    for name, text, value in (
            ("money_hour", "Spent in the cloud, or reserved, in the last hour", spend.money_hour),
            ("money_hour_cap", "What may be spent there in an hour", spend.money_cap),
            ("jobs_minute", "Jobs sent to the cloud in the last minute", spend.jobs_minute),
            ("jobs_minute_cap", "Jobs that may be sent there in a minute", spend.jobs_cap)):
        yield gauge(f"tandem_cloud_{name}", text, [((), value)], ())


def _of_alerts(alerts: list[AlertView]) -> Iterator[Metric]:
    found = Counter((alert.name, alert.scope) for alert in alerts)
    yield gauge("tandem_alerts_open", "Alerts that are open", found.items(), ("name", "scope"))


def _of_delivery(hooks: list[HookFigures]) -> Iterator[Metric]:
    yield counter("tandem_alert_messages", "Messages of alerts to a webhook, by what became of them",
                  [((str(hook.index), hook.where, outcome), value) for hook in hooks
                   for outcome, value in (("sent", hook.sent), ("retried", hook.retried), ("given_up", hook.given_up))],
                  ("hook", "where", "outcome"))
    yield counter("tandem_alert_events", "Opened and closed alerts that a webhook was told",
                  [((str(hook.index), hook.where), hook.events) for hook in hooks], ("hook", "where"))
