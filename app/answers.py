"""Answers that are known already: deterministic requests of the model service, kept when they were answered.

What is asked for again is answered from the response cache; what is asked for while it is being answered is coalesced by
the ledger. Either needs the request's fingerprint. A broken cache is an empty one.
"""

from app.fingerprint import SHARED, fingerprint
from app.inputs import ModelInput
from app.job import NewJob
from app.ledger import Ending, Ledger, Submission
from app.model_names import ModelNames
from app.response_cache import Entry, ResponseCache
from app.settings import Settings

_DECISION = b'{"rule":"cached","detail":"the same request was answered before"}'


class Answers:
    """Finds and keeps answers. Safe to share between threads."""

    def __init__(self, cache: ResponseCache, names: ModelNames, settings: Settings) -> None:
        self._cache = cache
        self._names = names
        self._settings = settings

    def scope(self, tenant: str) -> str:
        """Whose answers a tenant shares."""
        return SHARED if self._settings.cache_shared else tenant

    def fingerprint(self, request: ModelInput, tenant: str) -> str | None:
        """Return what tells this request from others; None where it is not deterministic, or it is not certain which model
        will answer."""
        if not self._settings.cache or (request.temperature != 0 and request.seed is None):
            return None
        model = self._names.only
        return fingerprint(request, scope=self.scope(tenant), model=model) if model else None

    def find(self, job: NewJob) -> Ending | None:
        """Return the answer to a job, if it is known, and was given by the model that is served."""
        if job.fingerprint is None:
            return None
        entry = self._cache.get(self.scope(job.tenant), job.fingerprint)
        return Ending(result=entry.result, usage=entry.usage) if entry and entry.model == self._names.only else None

    def keep(self, tenant: str, mark: str, result: bytes, usage: bytes, model: str) -> None:
        """Keep an answer that `model` gave to a request with this fingerprint."""
        self._cache.put(self.scope(tenant), mark, Entry(model=model, result=result, usage=usage))

    def submit(self, job: NewJob, ledger: Ledger) -> Submission:
        """Submit a job, with its answer if that is known."""
        answer = self.find(job)
        return ledger.submit(job, answer=answer, decision=_DECISION) if answer else ledger.submit(job)
