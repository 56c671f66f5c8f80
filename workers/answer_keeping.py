"""Keeps the model's answers for those who ask the same again, on a thread beside the jobs: no job waits for the cache.

While the cache is slower than the answers come, some are not kept.
"""

import queue
import threading
from collections.abc import Callable

import msgspec

from app.answers import Answers
from app.ledger import Claim
from app.model_names import ModelNames

_MOST_WAITING = 256  # answers; at some kilobytes each no more than the engine has in its batch


class AnswerKeeping:
    """Keeps answers, for as long as the process lives."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._waiting: queue.Queue[tuple[str, str, bytes, bytes, str]] = queue.Queue(_MOST_WAITING)
        threading.Thread(target=self._keep_for_ever, name="tandem-answers", daemon=True).start()

    def keep(self, tenant: str, mark: str, result: bytes, usage: bytes, model: str) -> None:
        """Have an answer kept, soon; return at once."""
        try:
            self._waiting.put_nowait((tenant, mark, result, usage, model))
        except queue.Full:
            return

    def from_elsewhere(self, names: ModelNames) -> Callable[[Claim, bytes, bytes], None]:
        """Return what keeps an answer (claim, result, usage) that the model was asked for elsewhere. It is kept only where
        the model that gave it has the name of the one that is served here: or the next who asks here would be answered by
        another."""
        def keep(claim: Claim, result: bytes, usage: bytes) -> None:
            if not claim.fingerprint:
                return
            model = msgspec.json.decode(result).get("model")
            if model and model == names.only:
                self.keep(claim.tenant, claim.fingerprint, result, usage, model)

        return keep

    def _keep_for_ever(self) -> None:
        while True:
            self._answers.keep(*self._waiting.get())
