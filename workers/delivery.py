"""Delivers webhooks: a part of each worker of the queue service, beside its jobs.

One thread takes the ledger's word of ended jobs (`workers.delivery_intake`); another makes the deliveries that are due on
an event loop, many at a time, but few to one receiver and for one tenant: so one that hangs holds up itself only, and no
job. All that is to be remembered lies in Redis: whatever dies here, another worker goes on with.
"""

import asyncio
import concurrent.futures
import logging
import random
import secrets
import threading
import time
from collections import Counter

from app import logs
from app.errors import SettingsError, StoreUnavailable
from app.keyring import Keyring
from app.ledger import Ledger
from app.settings import Settings
from app.store import open_redis
from app.webhook_deliveries import Deliveries, Delivery, Verdict
from app.webhook_secrets import WebhookSecrets, signature
from workers.delivery_courier import Courier
from workers.delivery_intake import Intake
from workers.delivery_schedule import Outcome, decide
from workers.queue_retention import QueueRetention

SLOTS = 64  # deliveries that a worker makes at a time
_PER_TENANT = 16
_PER_RECEIVER = 4

_BLOCK_MS = 2000  # how long the intake waits for the ledger's word
_TAKE_OVER_S = 10.0  # how often it looks for what a dead worker left
_LOOK_S = 1.0  # how often deliveries that are due are looked for where nothing else says so
_PAUSE_S = 0.5  # after Redis failed
_FINISH_S = 2.0  # that attempts under way have when the worker stops; then they are given back
_AGENT = "Tandem"


class Deliverer:
    """The two threads. `worker` is the consumer's name."""

    def __init__(self, settings: Settings, keyring: Keyring, *, worker: str, courier: Courier | None = None) -> None:
        self._settings = settings
        self._worker = worker
        self._client = client = open_redis(settings)
        self._deliveries = Deliveries(client)
        self._secrets = WebhookSecrets(client, keyring)
        self._retention = QueueRetention(client, settings)
        waiting = open_redis(settings, timeout_s=_BLOCK_MS / 1000 + settings.redis_timeout_s)
        self._intake = Intake(waiting, Ledger(client, settings), self._deliveries, consumer=worker)
        self._courier = courier or Courier(settings)
        self._owner = secrets.token_hex(8)
        self._under_way: dict[asyncio.Task[None], Delivery] = {}
        self._stopping = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._something = asyncio.Event()  # to do, or a slot is free
        self._threads = [threading.Thread(target=self._take_in, name="tandem-hooks-intake", daemon=True),
                         threading.Thread(target=self._deliver_all, name="tandem-hooks", daemon=True)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin nothing new; finish what is under way, or give it back."""
        self._stopping.set()
        self._wake()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began."""
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(end_s - time.monotonic(), 0.0))

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._something.set)

    # -- the intake's thread

    def _take_in(self) -> None:
        due_s = 0.0
        while not self._stopping.is_set():
            try:
                taken = self._intake.take(block_ms=_BLOCK_MS)
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + _TAKE_OVER_S
                    taken += self._intake.take_over()
                    self._retention.trim()
                if taken:
                    self._wake()
            except StoreUnavailable as exc:
                logs.event("webhook_intake_failed", worker=self._worker, why=str(exc))
                self._stopping.wait(_PAUSE_S)
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it no webhook would be delivered
                logs.event("webhook_intake_failed", level=logging.ERROR, exc_info=True, worker=self._worker, why=str(exc))
                self._stopping.wait(_PAUSE_S)

    # -- the deliveries' thread

    def _deliver_all(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(8, "tandem-hooks-redis"))
            runner.run(self._dispatch())

    async def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._something.clear()
            wait_s = _LOOK_S
            try:
                claimed, next_s = await asyncio.to_thread(self._claim, list(self._under_way.values()))
                for delivery in claimed:
                    self._under_way[self._loop.create_task(self._deliver(delivery))] = delivery
                wait_s = min(_LOOK_S, next_s)
            except StoreUnavailable as exc:
                logs.event("webhook_claim_failed", worker=self._worker, why=str(exc))
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it no webhook would be delivered
                logs.event("webhook_claim_failed", level=logging.ERROR, exc_info=True, worker=self._worker, why=str(exc))
            await self._wait(wait_s)
        await self._finish()

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._something.wait()
        except TimeoutError:
            return

    def _claim(self, under_way: list[Delivery]) -> tuple[list[Delivery], float]:
        """Claim what is due, as far as there are slots; return it, and in how many seconds to look again."""
        receivers = Counter(each.receiver for each in under_way)
        tenants = Counter(each.tenant for each in under_way)
        claimed: list[Delivery] = []
        for receiver in self._deliveries.due():
            tenant = receiver.partition("|")[0]
            room = min(SLOTS - len(under_way) - len(claimed), _PER_TENANT - tenants[tenant],
                       _PER_RECEIVER - receivers[receiver])
            if room > 0:
                fresh = self._deliveries.claim(receiver, room, lease_s=2 * self._settings.webhook_timeout_s + 1,
                                               owner=f"{self._owner}-{secrets.token_hex(4)}")
                tenants[tenant] += len(fresh)
                claimed += fresh
            if len(under_way) + len(claimed) >= SLOTS:
                break
        next_s = self._deliveries.next_s()
        return claimed, _LOOK_S if next_s is None else next_s

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one attempt, and record what became of it. Where Redis is away, the lease runs out, and another follows."""
        try:
            outcome = await self._outcome(delivery)
            verdict, delay_s = decide(outcome, attempts=delivery.attempts, settings=self._settings, chance=random.random())
            kept = await asyncio.to_thread(self._deliveries.settle, delivery, verdict, delay_s=delay_s, error=outcome.error)
            logs.event(_EVENTS[verdict] if kept else "webhook_stale", webhook=delivery.id, attempt=delivery.attempts,
                       status=outcome.status, why=outcome.error)
        except StoreUnavailable as exc:
            logs.event("webhook_unsettled", webhook=delivery.id, attempt=delivery.attempts, why=str(exc))
        except Exception as exc:  # noqa: BLE001 - the task's outermost: what it raises nobody would see
            logs.event("webhook_unsettled", level=logging.ERROR, exc_info=True, webhook=delivery.id, why=str(exc))
        finally:
            self._under_way.pop(asyncio.current_task(), None)  # type: ignore[arg-type]  # it runs in one
            self._something.set()

    async def _outcome(self, delivery: Delivery) -> Outcome:
        """Make an attempt; a bug that it meets counts as one that failed, so that it ends some day."""
        try:
            return await self._attempt(delivery)
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001 - the boundary between a delivery and its worker
            logs.event("webhook_crashed", level=logging.ERROR, exc_info=True, webhook=delivery.id, why=str(exc))
            return Outcome(error=f"the attempt failed ({type(exc).__name__}); the worker's log has the reason")

    async def _attempt(self, delivery: Delivery) -> Outcome:
        timestamp_s = round(time.time())
        try:
            signing = await asyncio.to_thread(self._secrets.signing, delivery.tenant)
        except SettingsError as exc:  # another keyring sealed it; an operator may put that right
            return Outcome(error=str(exc))
        return await self._courier.carry(delivery.url, {
            "content-type": "application/json", "user-agent": _AGENT, "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signature(signing, delivery.id, timestamp_s, delivery.body)}, delivery.body)

    async def _finish(self) -> None:
        """Let what is under way end, for a moment; give the rest back, so that another worker need not wait for leases."""
        left = dict(self._under_way)
        try:
            await asyncio.to_thread(self._intake.interrupt, self._client)
        except StoreUnavailable as exc:
            logs.event("webhook_intake_failed", worker=self._worker, why=str(exc))
        if left:
            await asyncio.wait(left, timeout=_FINISH_S)
        for task, delivery in left.items():
            if not task.done():
                task.cancel()
                try:
                    await asyncio.to_thread(self._deliveries.settle, delivery, Verdict.BACK)
                except StoreUnavailable as exc:
                    logs.event("webhook_unsettled", webhook=delivery.id, attempt=delivery.attempts, why=str(exc))
        await self._courier.close()


_EVENTS = {Verdict.DONE: "webhook_delivered", Verdict.AGAIN: "webhook_failed", Verdict.DEAD: "webhook_dead"}
