"""What `route explain` tells of a job that waits at home: how routing stands with it now."""

from app.job import Job, Route, Service, State
from app.routing_board import Mode
from app.routing_records import Shown
from ops.route_text import UNKNOWN, moment


def stands(job: Job, shown: Shown | None, mode: Mode) -> str:
    """Return what holds for it, by the last round; nothing where it does not wait at home."""
    if job.state is not State.QUEUED or job.route is not Route.LOCAL:
        return ""
    parts = [_held(job.service, shown)] if shown else ["no round of routing for 10 s"]
    if shown and shown.decision.reason and job.service is Service.MODEL:
        would = "" if shown.acting else "would, if routing were acting: "
        parts.append(f"the last round: {would}{shown.decision.reason}")
    if mode.paused:
        parts.append(f"routing is paused, by {mode.who or UNKNOWN} since {moment(mode.at_s)}: {mode.why}")
    elif shown and not shown.acting:
        parts.append("routing does not act: the setting `routing` is off")
    return "; ".join(parts)


def _held(service: Service, shown: Shown) -> str:
    servers = [name for name, told in shown.signals.servers.items() if told and service in told.held]
    if not servers:
        return f"no server holds back what it takes of {service}"
    return f"{', '.join(sorted(servers))} {'take' if len(servers) > 1 else 'takes'} nothing new of {service}"
