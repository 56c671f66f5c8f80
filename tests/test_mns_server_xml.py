"""Bodies of the local MNS server: what of XML it reads, what it refuses, and that what it writes says what was sent."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.mns_server import answers, drafts, xml
from ops.mns_server.errors import Refused
from ops.mns_server.handles import parts, tail, whole
from ops.mns_server.message import Delivery, Draft, Property
from ops.mns_server.targets import target_of

_IN_XML = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"], include_characters="\t\n\r")


@pytest.mark.parametrize("body", [
    b"", b"plain text", b"<Message>", b"<Message></Queue>", b"<Message/><Message/>", b"<a:Message/>",
    b"<Message>\x01</Message>",
    b"<Message>&unknown;</Message>", b"<Message>\xff</Message>", b"<Message>" * 9 + b"</Message>" * 9,
    b"<!DOCTYPE Message><Message/>", b'<!DOCTYPE Message SYSTEM "http://127.0.0.1:1/x"><Message/>',
    b'<!DOCTYPE m [<!ENTITY e "x">]><Message>&e;</Message>',
    b'<!DOCTYPE m [<!ENTITY % e SYSTEM "file:///etc/passwd">%e;]><Message/>',
    b'<?xml version="1.0" encoding="no-such"?><Message/>',
    b"<Message>" + b"<a/>" * 5001 + b"</Message>",
])
def test_what_is_not_plain_xml_is_malformed(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        xml.parse(body)
    assert caught.value.code == "MalformedXML"


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://mns.aliyuncs.com/doc/v1"', ' xmlns="http://mns.aliyuncs.com/doc/v1/"'])
def test_a_body_is_read_with_either_namespace_or_none(namespace: str) -> None:
    root = xml.parse(f"<Message{namespace}><MessageBody>a &lt; b</MessageBody></Message>".encode())
    assert (root.name, root.texts()) == ("Message", {"MessageBody": "a < b"})


@given(st.text(_IN_XML))
def test_any_text_is_read_as_it_was_written(text: str) -> None:
    assert xml.parse(xml.document("Message", xml.leaf("MessageBody", text))).texts() == {"MessageBody": text}


@given(st.text(_IN_XML, min_size=1), st.text(_IN_XML))
def test_what_is_answered_is_what_was_sent(body: str, value: str) -> None:
    draft = Draft(body, priority=3, group="g", user_properties=(Property("name", value, "STRING"),))
    delivery = Delivery("A" * 32, draft, "handle", 1, 2, 3, 4)
    message = ElementTree.fromstring(answers.message(delivery))
    space = f"{{{xml.NAMESPACE}}}"
    assert message.tag == f"{space}Message"
    assert [child.tag.removeprefix(space) for child in message] == [
        "MessageId", "ReceiptHandle", "MessageBody", "MessageBodyMD5", "EnqueueTime", "NextVisibleTime", "FirstDequeueTime",
        "DequeueCount", "Priority", "MessageGroupId", "UserProperties"]
    assert message.findtext(f"{space}MessageBody") == body
    again = drafts.draft(xml.parse(answers.message(delivery)))
    assert (again.body, again.user_properties, again.priority, again.group) == (body, draft.user_properties, 3, "g")


@pytest.mark.parametrize("inside", [
    "", "<MessageBody>x</MessageBody><MessageBody>y</MessageBody>", "<MessageBody>x</MessageBody><Priority>17</Priority>",
    "<MessageBody>x</MessageBody><Priority>1.5</Priority>", "<MessageBody>x</MessageBody><DelaySeconds>-1</DelaySeconds>",
    "<MessageBody>x</MessageBody><DelaySeconds>604801</DelaySeconds>",
    "<MessageBody>x</MessageBody><UserProperties><PropertyValue><Name>n</Name></PropertyValue></UserProperties>",
    "<MessageBody>x</MessageBody><SystemProperties><SystemPropertyValue><Name>n</Name><Value>v</Value><Type>NUMBER</Type>"
    "</SystemPropertyValue></SystemProperties>",
])
def test_a_message_with_a_value_that_cannot_be_is_an_invalid_argument(inside: str) -> None:
    with pytest.raises(Refused) as caught:
        drafts.draft(xml.parse(f"<Message>{inside}</Message>".encode()))
    assert caught.value.code == "InvalidArgument"


def test_a_batch_is_too_long_as_a_whole_where_each_message_fits() -> None:
    entry = f"<Message><MessageBody>{'x' * 33_000}</MessageBody></Message>"
    with pytest.raises(Refused, match="65536"):
        drafts.batch(xml.parse(f"<Messages>{entry * 2}</Messages>".encode()))


@given(st.integers(1, 16), st.integers(0, 2**45), st.integers(0, 50))
def test_a_handle_comes_apart_as_it_was_made(priority: int, now_ms: int, dequeues: int) -> None:
    end = tail(priority=priority, now_ms=now_ms, visibility_ms=30_000, dequeues=dequeues, order=7)
    assert parts(whole("0A" * 16, end)) == ("0A" * 16, end)


@pytest.mark.parametrize("handle", ["", "x", "0A" * 16, "0A" * 16 + "-", "0A" * 16 + "-%%%", "0A" * 16 + "-aGVsbG8=",
                                    "0a" * 16 + "-OCAxIDIgMyAwIGxvY2FsLTEgMCAxfGFi",
                                    "0A" * 16 + "-OCAxIDIgMyAwIGxvY2FsLTEgMCAxfA=="])
def test_what_never_was_a_handle_is_a_wrong_handle(handle: str) -> None:
    with pytest.raises(Refused) as caught:
        parts(handle)
    assert caught.value.code == "ReceiptHandleError"


def test_a_handle_in_a_query_survives_as_it_is_and_encoded() -> None:
    for text in ("A-b+c/d==", "A-b%2Bc%2Fd%3D%3D"):
        for name in ("ReceiptHandle", "receiptHandle"):
            assert target_of(f"/queues/q/messages?{name}={text}&VisibilityTimeout=1").text("ReceiptHandle") == "A-b+c/d=="


@pytest.mark.parametrize(("target", "code"), [
    ("/", "InvalidRequestURL"), ("/queues/q/other", "InvalidRequestURL"), ("/queues/q/messages/m", "InvalidRequestURL"),
    ("queues", "InvalidRequestURL"), ("/queues/-q", "InvalidQueueName"), ("/queues/q_1", "InvalidQueueName"),
    (f"/queues/{'q' * 121}", "QueueNameLengthError"), ("/queues/q?a=1&A=2", "InvalidQueryString"),
    ("/queues/q?=1", "InvalidQueryString"), ("/topics/t", "TopicNotExist"), ("/topics/t/subscriptions/s", "TopicNotExist"),
])
def test_a_target_that_is_none_has_its_code(target: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        target_of(target)
    assert caught.value.code == code
