"""What the SDK cannot send: signatures that do not fit, missing headers, broken bodies, wrong paths; and what answers look
like on the wire. Plain HTTP, signed by a signer of our own.

The same file runs against the real service: see tests/mns_service.py.
"""

import base64
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest

from tests.mns_suite.client import (
    NAMESPACE,
    VERSION,
    Queues,
    Request,
    Service,
    document,
    md5,
    sign,
)

_BODY = document("Message", MessageBody="hello")


@pytest.mark.parametrize(("method", "target", "date", "extra", "secret", "signature"), [
    ("GET", "/MyQueue", "Thu, 09 Jul 2015 03:01:34 GMT", {"x-mns-version": VERSION}, "TestAccessSecret",
     "uwx3yeWoILzgmvesW0BQSgfM7b8="),
    ("POST", "/queues/TestQueue", "Tue, 03 Jun 2025 11:23:48 GMT", {"x-mns-abcdef": "abcDEF"}, "sk1",
     "cAThPWnbphg3hDe3ZHDADTgkgyE="),
    ("GET", "/queues/TestQueue123456", "Wed, 03 Dec 2025 11:23:48 GMT", {"x-mns-abcdef": "KKKkkk"},
     "sk-kkkkkk1111111111", "lPxnfNA+Qo/aj18MYJUnRMqa84I="),
    ("GET", "/queues/TestQueue", "Tue, 03 Jun 2025 11:23:48 GMT", {}, "testSk", "uDJQXbk2xOhH95MDXmgbAGdtyE4="),
])
def test_our_signer_makes_the_published_signatures(method: str, target: str, date: str, extra: dict[str, str], secret: str,
                                                   signature: str) -> None:
    assert sign(Request(method, target, {"date": date, **extra}), secret=secret) == signature


@pytest.mark.parametrize("change", [
    lambda r: replace(r, method="PUT"),
    lambda r: replace(r, target=r.target + "?numOfMessages=2"),
    lambda r: replace(r, target=r.target.replace("/queues/", "/Queues/")),
    lambda r: r.saying(date=formatdate(time.time() - 60, usegmt=True)),
    lambda r: r.saying(content_type="text/xml"),
    lambda r: replace(r, body=_BODY.replace(b"hello", b"hullo")).saying(content_md5=md5(_BODY.replace(b"hello", b"hullo"))),
    lambda r: r.without("content-md5"),
    lambda r: r.saying(x_mns_prefix="added"),
    lambda r: r.saying(authorization=r.headers["authorization"][:-5] + "AAAA="),
], ids=["method", "query", "path", "date", "content type", "body and its md5", "no md5", "x-mns header", "signature"])
def test_a_signature_for_something_else_is_refused(queues: Queues, service: Service,
                                                   change: Callable[[Request], Request]) -> None:
    target = f"/queues/{queues.make().queue_name}/messages"
    answer = service.send(change(service.request("POST", target, body=_BODY)))
    assert (answer.status, answer.error) == (403, "SignatureDoesNotMatch")


def test_the_order_of_the_query_is_signed_as_it_is_sent(queues: Queues, service: Service) -> None:
    path = f"/queues/{queues.make().queue_name}/messages"
    request = service.request("GET", f"{path}?waitseconds=0&numOfMessages=2")
    assert service.send(request).error == "MessageNotExist"
    swapped = replace(request, target=f"{path}?numOfMessages=2&waitseconds=0")
    assert service.send(swapped).error == "SignatureDoesNotMatch"


def test_another_secret_and_another_key_are_told_apart(service: Service) -> None:
    wrong_secret = replace(service, access_key_secret="not the secret")
    assert wrong_secret.send(wrong_secret.request("GET", "/queues")).error == "SignatureDoesNotMatch"
    stranger = replace(service, access_key_id="nobody-has-this-key")
    answer = stranger.send(stranger.request("GET", "/queues"))
    assert (answer.status, answer.error) == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize(("header", "status", "code"), [
    ("authorization", 400, "MissingAuthorizationHeader"), ("date", 400, "MissingDateHeader"),
    ("x-mns-version", 400, "MissingVersionHeader")])
def test_a_missing_header_is_named(service: Service, header: str, status: int, code: str) -> None:
    request = service.request("GET", "/queues").without(header)
    answer = service.send(request if header == "authorization" else service.signed(request))
    assert (answer.status, answer.error) == (status, code)


@pytest.mark.parametrize("authorization", ["Basic dXNlcjpwYXNz", "MNS", "MNS no-colon", "MNS :", "nonsense"])
def test_an_authorization_of_another_form_is_refused(service: Service, authorization: str) -> None:
    answer = service.send(service.request("GET", "/queues").saying(authorization=authorization))
    assert answer.status in (400, 403)
    assert answer.error in ("InvalidAuthorizationHeader", "InvalidAccessKeyId")


@pytest.mark.parametrize(("header", "value", "code"), [
    ("date", "yesterday", "InvalidDateHeader"), ("x_mns_version", "2014-01-01", "InvalidVersionHeader")])
def test_a_header_of_another_form_is_refused(service: Service, header: str, value: str, code: str) -> None:
    answer = service.send(service.signed(service.request("GET", "/queues").saying(**{header: value})))
    assert (answer.status, answer.error) == (400, code)


@pytest.mark.parametrize(("minutes", "accepted"), [(-16, False), (-14, True), (14, True), (16, False)])
def test_a_clock_may_be_off_by_a_quarter_of_an_hour(service: Service, minutes: int, *, accepted: bool) -> None:
    date = formatdate(time.time() + 60 * minutes, usegmt=True)
    answer = service.send(service.signed(service.request("GET", "/queues").saying(date=date)))
    assert answer.status == 200 if accepted else (answer.status, answer.error) == (408, "TimeExpired")


def test_an_md5_of_another_body_is_refused_even_when_signed(queues: Queues, service: Service) -> None:
    queue = queues.make()
    request = service.request("POST", f"/queues/{queue.queue_name}/messages", body=_BODY).saying(content_md5=md5(b"other"))
    answer = service.send(service.signed(request))
    assert (answer.status, answer.error) == (400, "InvalidDegist")


def test_a_body_needs_no_md5(queues: Queues, service: Service) -> None:
    request = service.request("POST", f"/queues/{queues.make().queue_name}/messages", body=_BODY).without("content-md5")
    assert service.send(service.signed(request)).status == 201


@pytest.mark.parametrize("body", [b"not xml", b"<Message><MessageBody>x</MessageBody>", b"<Message>&nothing;</Message>",
                                  b"\xff\xfe\xfd", document("Message", MessageBody="a\x01b")],
                         ids=["text", "unclosed", "entity", "bytes", "control character"])
def test_a_body_that_is_no_xml_is_refused(queues: Queues, service: Service, body: bytes) -> None:
    answer = service.send(service.request("POST", f"/queues/{queues.make().queue_name}/messages", body=body))
    assert (answer.status, answer.error) == (400, "MalformedXML")


@pytest.mark.parametrize("body", [document("Message"), document("Letter", MessageBody="x"), document("Messages"),
                                  document("Message", MessageBody="x", Priority="high"),
                                  document("Message", MessageBody="x", DelaySeconds="soon")],
                         ids=["no body", "another root", "empty batch", "priority", "delay"])
def test_xml_of_another_shape_is_refused(queues: Queues, service: Service, body: bytes) -> None:
    answer = service.send(service.request("POST", f"/queues/{queues.make().queue_name}/messages", body=body))
    assert answer.status == 400
    assert answer.error in ("InvalidArgument", "MalformedXML")


@pytest.mark.parametrize(("method", "target"), [
    ("GET", "/"), ("GET", "/nothing"), ("GET", "/queues/{q}/letters"), ("GET", "/queues/{q}/messages/1"),
    ("POST", "/queues/{q}"), ("PUT", "/queues"), ("PATCH", "/queues/{q}")])
def test_what_is_no_operation_is_refused(queues: Queues, service: Service, method: str, target: str) -> None:
    answer = service.send(service.request(method, target.replace("{q}", queues.make().queue_name)))
    assert answer.status in (400, 404, 405), answer
    assert answer.error in ("InvalidRequestURL", "InvalidArgument", "InvalidQueryString"), answer


@pytest.mark.parametrize(("method", "query", "code"), [
    ("DELETE", "", "MissingReceiptHandle"), ("PUT", "?VisibilityTimeout=30", "MissingReceiptHandle"),
    ("PUT", "?ReceiptHandle=x", "MissingVisibilityTimeout")])
def test_what_an_operation_lacks_is_named(queues: Queues, service: Service, method: str, query: str, code: str) -> None:
    answer = service.send(service.request(method, f"/queues/{queues.make().queue_name}/messages{query}"))
    assert (answer.status, answer.error) == (400, code)


def test_creation_answers_201_then_204_then_409(queues: Queues, service: Service) -> None:
    target = f"/queues/{queues.name()}"
    first, again, other = (service.send(service.request("PUT", target, body=document("Queue", VisibilityTimeout=seconds)))
                           for seconds in (40, 40, 41))
    assert (first.status, again.status, other.status, other.error) == (201, 204, 409, "QueueAlreadyExist")
    assert first.headers["location"] == again.headers["location"]
    assert first.headers["location"].endswith(target)


def test_each_operation_answers_with_its_own_status(queues: Queues, service: Service) -> None:
    target = f"/queues/{queues.make().queue_name}"
    seen = [service.send(service.request("PUT", f"{target}?metaoverride=true", body=document("Queue", DelaySeconds=0))),
            service.send(service.request("GET", target)), service.send(service.request("GET", "/queues"))]
    seen.append(service.send(service.request("GET", f"{target}/messages?peekonly=true")))
    seen.append(service.send(service.request("POST", f"{target}/messages", body=_BODY)))
    seen.append(got := service.send(service.request("GET", f"{target}/messages?waitseconds=10")))
    handle = got.texts()["ReceiptHandle"]
    seen.append(changed := service.send(service.request(
        "PUT", f"{target}/messages?receiptHandle={handle}&visibilityTimeout=60")))  # as the documentation spells them
    handle = changed.texts()["ReceiptHandle"]
    seen.append(service.send(service.request("DELETE", f"{target}/messages?ReceiptHandle={handle}")))
    assert [answer.status for answer in seen] == [204, 200, 200, 404, 201, 200, 200, 204]


def test_answers_carry_the_headers_that_clients_read(queues: Queues, service: Service) -> None:
    target = f"/queues/{queues.make().queue_name}"
    good, bad, none = (service.send(service.request(method, path)) for method, path in (
        ("GET", target), ("GET", f"{target}-not"), ("DELETE", target)))
    for answer in (good, bad, none):
        assert re.fullmatch(r"[0-9A-F]{24}", answer.headers["x-mns-request-id"]), answer
        assert answer.headers["x-mns-version"] == VERSION
        assert answer.headers["content-type"].lower() == "text/xml;charset=utf-8"
        assert "date" in answer.headers
    assert NAMESPACE.rstrip("/").encode() in good.body
    assert bad.texts()["RequestId"] == bad.headers["x-mns-request-id"]
    assert none.body == b""


def test_the_md5_is_of_the_body_as_it_was_sent(queues: Queues, service: Service) -> None:
    target = f"/queues/{queues.make().queue_name}/messages"
    encoded = base64.b64encode("你好".encode()).decode()
    sent = service.send(service.request("POST", target, body=document("Message", MessageBody=encoded))).texts()
    assert sent["MessageBodyMD5"] == hashlib.md5(encoded.encode()).hexdigest().upper()
    assert re.fullmatch(r"[0-9A-F]{32}", sent["MessageId"])


def test_one_connection_serves_many_requests_refused_ones_among_them(queues: Queues, service: Service) -> None:
    target = f"/queues/{queues.make().queue_name}/messages"
    connection = service.connect()
    try:
        good = service.request("POST", target, body=_BODY)
        for request, status in [(good, 201), (good.saying(content_type="text/plain"), 403), (good, 201),
                                (service.request("POST", target, body=b"not xml"), 400), (good, 201),
                                (service.request("DELETE", target), 400), (good, 201)]:
            assert request.over(connection).status == status
    finally:
        connection.close()
