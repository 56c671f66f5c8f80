"""Many jobs in one answer: those that the caller names, or its own, newest first."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from flask import Blueprint, Response, request

from app.accounts import Scope
from app.api import bodies, caller, paging
from app.api.submission import DURABILITY
from app.errors import InvalidInput
from app.job import Job, Lane, Service, State, is_job_id

blueprint = Blueprint("job_lists", __name__, url_prefix="/v1/jobs")

MOST = 100  # jobs that `ids=` may name: as many as a request line has room for

#: Pages of the ledger that one answer is sifted from, where a service or a lane is asked for. An answer may so hold fewer
#: jobs than asked for, and its cursor says where to go on.
_MOST_PAGES = 10

#: What a list leaves out: results are as long as all else together, and `ids=` or the job's own address gives them.
_LEFT_OUT = ("result", "error", "decision")

Choice = TypeVar("Choice", bound=StrEnum)


@blueprint.get("")
def index() -> Response:
    """Return the jobs that `?ids=` names, whole; or the caller's own, newest first, a page at a time."""
    who = caller.current(Scope.JOBS_READ)
    if request.args.get("ids") is not None:
        return _named(who.tenant)
    state, limit = _chosen("state", State), paging.limit()
    fits = _sieve(_chosen("service", Service), _chosen("lane", Lane))
    found: list[Job] = []
    cursor: str | None = request.args.get("cursor", "")
    pages = 0
    while cursor is not None and len(found) < limit and pages < _MOST_PAGES:
        page = bodies.gateway().ledger.page(who.tenant, state=state, before=cursor, limit=limit - len(found))
        found += filter(fits, page.jobs)
        cursor, pages = page.cursor, pages + 1
    return bodies.json_response({"data": [_brief(job) for job in found], "next_cursor": cursor or None})


def _named(tenant: str) -> Response:
    """Return the jobs of `?ids=a,b,c` in the order asked, and the ids that name no job of the caller."""
    if len(request.args) > 1:
        raise InvalidInput("`ids` names jobs one by one; it goes with no other parameter")
    given = dict.fromkeys(part.strip() for text in request.args.getlist("ids") for part in text.split(","))
    ids = [job_id for job_id in given if job_id]
    if len(ids) > MOST:
        raise InvalidInput(f"`ids` takes at most {MOST} ids; it came with {len(ids)}")
    asked = [job_id for job_id in ids if is_job_id(job_id)]
    jobs = dict(zip(asked, bodies.gateway().ledger.read_all(asked, tenant) if asked else [], strict=True))
    found = [job for job_id in ids if (job := jobs.get(job_id))]
    return bodies.json_response({
        "data": [job.public(durability=DURABILITY) for job in found],
        "missing": [job_id for job_id in ids if not jobs.get(job_id)]})


def _brief(job: Job) -> dict[str, Any]:
    told = msgspec.structs.replace(job, result=None, error=None, decision=None).public(durability=DURABILITY)
    return {name: value for name, value in told.items() if name not in _LEFT_OUT}


def _sieve(service: Service | None, lane: Lane | None) -> Callable[[Job], bool]:
    return lambda job: (service is None or job.service is service) and (lane is None or job.lane is lane)


def _chosen(name: str, kind: type[Choice]) -> Choice | None:
    """Return the value of a parameter that is one of a few. Raises `InvalidInput` with those."""
    given = request.args.get(name)
    if given is None:
        return None
    if given not in list(kind):
        raise InvalidInput(f"{name} must be one of {', '.join(kind)}; got '{given[:60]}'")
    return kind(given)
