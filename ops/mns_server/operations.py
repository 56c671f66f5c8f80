"""The operations of the queue API: which one a request asks for, and what it does to the queues.

The names are those of the service's documentation. An operation gets a `Call` and returns status, body and headers of
its success, or raises `Refused`; checks that hold for every request, faults and errors' bodies are `api.py`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ops.mns_server import answers, drafts, limits
from ops.mns_server.attributes import Attributes
from ops.mns_server.errors import Refused, message_missing
from ops.mns_server.faults import NO_HIT, Faults, Hit
from ops.mns_server.http_server import Request
from ops.mns_server.message import Delivery, Draft
from ops.mns_server.service import Service
from ops.mns_server.targets import Target
from ops.mns_server.xml import Element

# Which status a partly failed batch has is in no source that could be found; the SDK takes any from 400 on. [assumption]
_PARTLY_SENT = 500
_PARTLY_DELETED = 404


@dataclass(frozen=True, slots=True)
class Call:
    """One request, with its operation known. `root` is a send's body, already read; `host` is as the client named us."""

    operation: str
    request: Request
    target: Target
    host: str
    root: Element | None = None
    hit: Hit = NO_HIT


@dataclass(frozen=True, slots=True)
class Done:
    """What an operation answers when it went well, or partly."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def call_of(request: Request, target: Target, host: str) -> Call:
    """Return which operation the request asks for. Raises `Refused`: InvalidRequestURL, MalformedXML."""
    root = None
    match target.kind, request.method:
        case "account", "GET" | "PUT" as method:
            operation = "GetAccountAttributes" if method == "GET" else "SetAccountAttributes"
        case "service", "POST":
            operation = "OpenService"
        case "queues", "GET":
            operation = "ListQueue"
        case "queue", "GET" | "DELETE" as method:
            operation = "GetQueueAttributes" if method == "GET" else "DeleteQueue"
        case "queue", "PUT":
            operation = "SetQueueAttributes" if target.says("metaoverride") else "CreateQueue"
        case "messages", "POST":
            root = drafts.root(request.body, "Message", "Messages")
            operation = "SendMessage" if root.name == "Message" else "BatchSendMessage"
        case "messages", "GET":
            batch = "" if target.text("numOfMessages") is None else "Batch"
            operation = f"{batch}{'Peek' if target.says('peekonly') else 'Receive'}Message"
        case "messages", "DELETE":
            operation = "BatchDeleteMessage" if request.body else "DeleteMessage"
        case "messages", "PUT":
            operation = "ChangeMessageVisibility"
        case _:
            raise Refused("InvalidRequestURL", "Http request URL invalid: the method is not for this resource.")
    return Call(operation, request, target, host, root)


class Operations:
    """Does what calls ask for. With `counters_zero` the counts of a queue's attributes read 0, as the service says that
    its own soon will."""

    def __init__(self, service: Service, faults: Faults) -> None:
        self.counters_zero = True
        self._service, self._faults = service, faults
        self._table: dict[str, Callable[[Call], Done]] = {
            "CreateQueue": self._create, "SetQueueAttributes": self._set, "GetQueueAttributes": self._get,
            "ListQueue": self._list, "DeleteQueue": self._delete_queue,
            "SendMessage": self._send, "BatchSendMessage": self._batch_send,
            "ReceiveMessage": self._receive, "BatchReceiveMessage": self._receive,
            "PeekMessage": self._peek, "BatchPeekMessage": self._peek,
            "DeleteMessage": self._delete, "BatchDeleteMessage": self._batch_delete,
            "ChangeMessageVisibility": self._change,
            "GetAccountAttributes": self._get_account, "SetAccountAttributes": self._set_account,
            "OpenService": self._open_service,
        }

    def perform(self, call: Call) -> Done:
        """Do it. Raises `Refused`."""
        return self._table[call.operation](call)

    def _create(self, call: Call) -> Done:
        is_new = self._service.create(call.target.queue, drafts.attributes(call.request.body, Attributes()))
        return Done(201 if is_new else 204, headers={"Location": _url(call, call.target.queue)})

    def _set(self, call: Call) -> Done:
        self._service.set_attributes(call.target.queue, lambda base: drafts.attributes(call.request.body, base))
        return Done(204)

    def _get(self, call: Call) -> Done:
        record, census = self._service.look(call.target.queue)
        return Done(200, answers.queue(record, self._shown(census)))

    def _list(self, call: Call) -> Done:
        headers = call.request.headers
        most = limits.PAGE.read(headers.get("x-mns-ret-number", str(limits.PAGE.high)))
        names, more = self._service.names(prefix=headers.get("x-mns-prefix", ""), after=headers.get("x-mns-marker", ""),
                                          most=most)
        with_meta = headers.get("x-mns-with-meta", "").lower() == "true"
        entries = [self._entry(call, name, with_meta=with_meta) for name in names]
        return Done(200, answers.queues(entries, names[-1] if more else ""))

    def _entry(self, call: Call, name: str, *, with_meta: bool) -> str:
        url = answers.queue_url(_url(call, name))
        if not with_meta:
            return url
        record, census = self._service.look(name)
        return url + answers.queue_elements(record, self._shown(census))

    def _delete_queue(self, call: Call) -> Done:
        self._service.delete_queue(call.target.queue)
        return Done(204)

    def _send(self, call: Call) -> Done:
        assert call.root is not None, "a send has been read by call_of"
        return Done(201, answers.sent(self._store(call, drafts.draft(call.root))))

    def _batch_send(self, call: Call) -> Done:
        assert call.root is not None, "a send has been read by call_of"
        results = [self._store_or_refusal(call, one) for one in drafts.batch(call.root)]
        partly = any(isinstance(result, Refused) for result in results)
        return Done(_PARTLY_SENT if partly else 201, answers.sent_batch(results))

    def _store(self, call: Call, draft: Draft) -> Delivery:
        return self._service.send(call.target.queue, draft, copies=2 if call.hit.duplicate else 1)

    def _store_or_refusal(self, call: Call, draft: Draft | Refused) -> Delivery | Refused:
        if isinstance(draft, Refused):
            return draft
        try:
            return self._store(call, draft)
        except Refused as refusal:
            if refusal.code == "QueueNotExist":  # that is no one message's fault
                raise
            return refusal

    def _receive(self, call: Call) -> Done:
        target = call.target
        most = target.number(limits.BATCH)
        found = self._service.receive(target.queue, most or 1, wait_s=target.number(limits.WAIT_S),
                                      twist=self._faults.twist(call.hit, most or 1))
        return _messages(call, found)

    def _peek(self, call: Call) -> Done:
        return _messages(call, self._service.peek(call.target.queue, call.target.number(limits.BATCH) or 1))

    def _delete(self, call: Call) -> Done:
        self._service.delete(call.target.queue, _handle(call))
        return Done(204)

    def _batch_delete(self, call: Call) -> Done:
        failures = []
        for handle in drafts.handles(call.request.body):
            try:
                self._service.delete(call.target.queue, handle)
            except Refused as refusal:
                if refusal.code == "QueueNotExist":
                    raise
                failures.append((handle, refusal))
        return Done(_PARTLY_DELETED, answers.not_deleted(failures)) if failures else Done(204)

    def _change(self, call: Call) -> Done:
        handle = _handle(call)
        visibility_s = call.target.number(limits.VISIBILITY_S)
        if visibility_s is None:
            raise Refused("MissingVisibilityTimeout", "The VisibilityTimeout is required.")
        return Done(200, answers.changed(self._service.change(call.target.queue, handle, visibility_s)))

    def _get_account(self, _: Call) -> Done:
        return Done(200, answers.account(self._service.logging_bucket))

    def _set_account(self, call: Call) -> Done:
        bucket = drafts.logging_bucket(call.request.body)
        if bucket is not None:
            self._service.set_logging_bucket(bucket)
        return Done(204)

    def _open_service(self, _: Call) -> Done:
        return Done(200, answers.opened("local"))

    def _shown(self, census: answers.Census) -> answers.Census:
        return dict.fromkeys(census, 0) if self.counters_zero else census


def _messages(call: Call, found: list[Delivery]) -> Done:
    if not found:
        raise message_missing()
    if call.operation.startswith("Batch"):
        return Done(200, answers.messages(found))
    return Done(200, answers.message(found[0]))


def _handle(call: Call) -> str:
    handle = call.target.text("ReceiptHandle")
    if not handle:
        raise Refused("MissingReceiptHandle", "The receipt handle is required.")
    return handle


def _url(call: Call, queue: str) -> str:
    return f"http://{call.host}/queues/{queue}"
