"""The bodies of requests: what a client says, read from its XML into what the state machine takes."""

from collections.abc import Iterable

from ops.mns_server import limits
from ops.mns_server.attributes import Attributes, changed
from ops.mns_server.errors import Refused
from ops.mns_server.message import DEFAULT_PRIORITY, Draft, Property
from ops.mns_server.xml import Element, parse

_KINDS = frozenset({"STRING", "NUMBER", "BOOLEAN", "BINARY"})


def root(body: bytes, *names: str) -> Element:
    """Return the body's root, which must have one of the names. Raises `Refused` (MalformedXML)."""
    found = parse(body)
    if found.name not in names:
        raise Refused("MalformedXML", f"The root element should be {' or '.join(names)}.")
    return found


def attributes(body: bytes, base: Attributes) -> Attributes:
    """Return `base` with what the body's `<Queue>` says; an empty body says nothing. Raises `Refused`."""
    return changed(base, root(body, "Queue").texts()) if body else base


def draft(message: Element) -> Draft:
    """Return what a `<Message>` says. Raises `Refused` (InvalidArgument) for a value out of its range."""
    texts = message.texts()
    if "MessageBody" not in texts:
        raise Refused("InvalidArgument", "The element MessageBody is required.")
    return Draft(
        body=texts["MessageBody"],
        priority=limits.PRIORITY.read(texts["Priority"]) if "Priority" in texts else DEFAULT_PRIORITY,
        delay_s=limits.DELAY_S.read(texts["DelaySeconds"]) if "DelaySeconds" in texts else None,
        group=texts.get("MessageGroupId", ""),
        user_properties=_properties(message.within("UserProperties"), _KINDS),
        system_properties=_properties(message.within("SystemProperties"), frozenset({"STRING"})))


def batch(messages: Element) -> list[Draft | Refused]:
    """Return what each `<Message>` says, or why it is refused. Raises `Refused` if the batch as a whole is: too many
    messages, or too long together."""
    entries = messages.children
    limits.BATCH.check(len(entries))
    if any(entry.name != "Message" for entry in entries):
        raise Refused("MalformedXML", "The element Messages should hold elements Message only.")
    results = [_draft_or_refusal(entry) for entry in entries]
    whole_bytes = sum(result.size_bytes for result in results if isinstance(result, Draft))
    if whole_bytes > limits.MAX_BODY_BYTES and len(results) > 1:
        raise Refused("InvalidArgument", f"The value of Messages should between 1 and {limits.MAX_BODY_BYTES} bytes.")
    return results


def handles(body: bytes) -> list[str]:
    """Return the handles of a `<ReceiptHandles>`. Raises `Refused`."""
    entries = root(body, "ReceiptHandles").children
    limits.BATCH.check(len(entries))
    return [entry.text.strip() for entry in entries]


def logging_bucket(body: bytes) -> str | None:
    """Return what an `<Account>` sets, or None if it sets nothing. Raises `Refused`."""
    return root(body, "Account").texts().get("LoggingBucket")


def _draft_or_refusal(message: Element) -> Draft | Refused:
    try:
        return draft(message)
    except Refused as refusal:
        return refusal


def _properties(elements: Iterable[Element], kinds: frozenset[str]) -> tuple[Property, ...]:
    result = []
    for element in elements:
        texts = element.texts()
        name, kind = texts.get("Name", ""), texts.get("Type", "")
        if not name or "Value" not in texts or kind not in kinds:
            raise Refused("InvalidArgument", f"A property has Name, Value and a Type of {', '.join(sorted(kinds))}.")
        result.append(Property(name, texts["Value"], kind))
    return tuple(result)
