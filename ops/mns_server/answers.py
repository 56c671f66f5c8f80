"""The bodies of answers: what the state machine says, as the service's XML. Names and order are those of recordings."""

from collections.abc import Iterable, Sequence

from ops.mns_server import xml
from ops.mns_server.attributes import elements_of
from ops.mns_server.errors import Refused
from ops.mns_server.journal import QueueRecord
from ops.mns_server.message import Delivery, Property, State

#: How many messages of a queue are in each state.
Census = dict[State, int]


def error(refusal: Refused, *, request_id: str, host: str) -> bytes:
    """Return the body of a refusal."""
    return xml.document("Error", xml.leaves({"Code": refusal.code, "Message": refusal.message, "RequestId": request_id,
                                             "HostId": f"http://{host}"}))


def queue(record: QueueRecord, census: Census) -> bytes:
    """Return the body of GetQueueAttributes."""
    return xml.document("Queue", queue_elements(record, census))


def queue_elements(record: QueueRecord, census: Census) -> str:
    """Return a queue's attributes. Times are in seconds, as the service has them here."""
    return xml.leaves({
        "QueueName": record.name, "CreateTime": record.created_ms // 1000, "LastModifyTime": record.modified_ms // 1000,
        **elements_of(record.attributes), "ActiveMessages": census[State.ACTIVE],
        "InactiveMessages": census[State.INACTIVE], "DelayMessages": census[State.DELAYED]})


def queue_url(url: str) -> str:
    """Return what ListQueue says of each queue."""
    return xml.leaf("QueueURL", url)


def queues(entries: Iterable[str], next_marker: str) -> bytes:
    """Return the body of ListQueue; each entry is the inside of a `<Queue>`."""
    marker = xml.leaf("NextMarker", next_marker) if next_marker else ""
    return xml.document("Queues", "".join(xml.node("Queue", entry) for entry in entries) + marker)


def sent(one: Delivery) -> bytes:
    """Return the body of SendMessage."""
    elements = {"MessageId": one.id, "MessageBodyMD5": one.draft.digest}
    if one.handle:
        elements["ReceiptHandle"] = one.handle
    if one.draft.group:
        elements["MessageGroupId"] = one.draft.group
    return xml.document("Message", xml.leaves(elements))


def sent_batch(results: Sequence[Delivery | Refused]) -> bytes:
    """Return the body of BatchSendMessage. Beside a failure, the SDK takes nothing but id and digest."""
    partial = any(isinstance(result, Refused) for result in results)
    entries = [xml.node("Message", _sent_entry(result, partial=partial)) for result in results]
    return xml.document("Messages", "".join(entries))


def _sent_entry(result: Delivery | Refused, *, partial: bool) -> str:
    if isinstance(result, Refused):
        return xml.leaves({"ErrorCode": result.code, "ErrorMessage": result.message})
    elements = {"MessageId": result.id, "MessageBodyMD5": result.draft.digest}
    if result.draft.group and not partial:
        elements["MessageGroupId"] = result.draft.group
    return xml.leaves(elements)


def message(one: Delivery) -> bytes:
    """Return the body of ReceiveMessage or PeekMessage."""
    return xml.document("Message", _message_elements(one))


def messages(several: Iterable[Delivery]) -> bytes:
    """Return the body of BatchReceiveMessage or BatchPeekMessage."""
    return xml.document("Messages", "".join(xml.node("Message", _message_elements(one)) for one in several))


def changed(one: Delivery) -> bytes:
    """Return the body of ChangeMessageVisibility."""
    return xml.document("ChangeVisibility", xml.leaves({"ReceiptHandle": one.handle,
                                                        "NextVisibleTime": one.next_visible_ms}))


def not_deleted(failures: Iterable[tuple[str, Refused]]) -> bytes:
    """Return the body of a BatchDeleteMessage of which something failed: only what did."""
    entries = [xml.leaves({"ErrorCode": refusal.code, "ErrorMessage": refusal.message, "ReceiptHandle": handle})
               for handle, refusal in failures]
    return xml.document("Errors", "".join(xml.node("Error", entry) for entry in entries))


def account(logging_bucket: str) -> bytes:
    """Return the body of GetAccountAttributes."""
    return xml.document("Account", xml.leaf("LoggingBucket", logging_bucket))


def opened(order: str) -> bytes:
    """Return the body of OpenService."""
    return xml.document("OpenService", xml.leaf("OrderId", order))


def _message_elements(one: Delivery) -> str:
    """A message that was only looked at has no handle and no time of its next visibility."""
    elements: dict[str, object] = {"MessageId": one.id}
    if one.handle:
        elements["ReceiptHandle"] = one.handle
    elements |= {"MessageBody": one.draft.body, "MessageBodyMD5": one.draft.digest, "EnqueueTime": one.enqueued_ms}
    if one.handle:
        elements["NextVisibleTime"] = one.next_visible_ms
    elements |= {"FirstDequeueTime": one.first_dequeued_ms, "DequeueCount": one.dequeues, "Priority": one.draft.priority}
    if one.draft.group:
        elements["MessageGroupId"] = one.draft.group
    return (xml.leaves(elements) + _properties("UserProperties", "PropertyValue", one.draft.user_properties)
            + _properties("SystemProperties", "SystemPropertyValue", one.draft.system_properties))


def _properties(outer: str, inner: str, properties: Sequence[Property]) -> str:
    if not properties:
        return ""
    return xml.node(outer, "".join(xml.node(inner, xml.leaves({"Name": one.name, "Value": one.value, "Type": one.kind}))
                                   for one in properties))
