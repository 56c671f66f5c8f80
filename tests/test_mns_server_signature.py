"""Signatures of the local MNS server: vectors that others have published, and every way in which a request can be wrong."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ops.mns_server.admission import Admission, check_date
from ops.mns_server.errors import Refused
from ops.mns_server.http_server import Request
from ops.mns_server.keys import BadKeys, Key, Keys, keys_of
from ops.mns_server.signature import content_md5, is_signed, sign, split_authorization, string_to_sign

_TARGET = "/queues/jobs/messages?ReceiptHandle=A-b+c/d==&VisibilityTimeout=30"
_BODY = b"<Message><MessageBody>aGVsbG8=</MessageBody></Message>"


@pytest.mark.parametrize(("method", "target", "headers", "secret", "signature"), [
    # the service's documentation, "How do I obtain the signature string of an API request?" (it masks the last four)
    ("GET", "/MyQueue", {"date": "Thu, 09 Jul 2015 03:01:34 GMT", "x-mns-version": "2015-06-06"}, "TestAccessSecret",
     "uwx3yeWoILzgmvesW0BQSgfM7b8="),
    # the tests of the service's SDK for Java
    ("POST", "/queues/TestQueue", {"date": "Tue, 03 Jun 2025 11:23:48 GMT", "x-mns-abcdef": "abcDEF"}, "sk1",
     "cAThPWnbphg3hDe3ZHDADTgkgyE="),
    ("GET", "/queues/TestQueue123456", {"date": "Wed, 03 Dec 2025 11:23:48 GMT", "x-mns-abcdef": "KKKkkk"},
     "sk-kkkkkk1111111111", "lPxnfNA+Qo/aj18MYJUnRMqa84I="),
    ("GET", "/queues/TestQueue", {"date": "Tue, 03 Jun 2025 11:23:48 GMT"}, "testSk", "uDJQXbk2xOhH95MDXmgbAGdtyE4="),
], ids=["documentation", "post with a header", "get with a header", "no header"])
def test_published_signatures_are_reproduced(method: str, target: str, headers: dict[str, str], secret: str,
                                             signature: str) -> None:
    text = string_to_sign(method, target, headers)
    assert sign(secret, text) == signature
    assert is_signed(secret, signature, text)
    assert not is_signed(secret, signature[:-2] + "A=", text)


def test_what_is_signed_is_the_raw_target_and_the_sorted_headers() -> None:
    headers = {"x-mns-version": "2015-06-06", "x-mns-marker": "m", "date": "D", "content-type": "text/xml", "host": "h",
               "content-md5": "5"}
    assert string_to_sign("PUT", _TARGET, headers) == (
        f"PUT\n5\ntext/xml\nD\nx-mns-marker:m\nx-mns-version:2015-06-06\n{_TARGET}")


def test_the_digest_of_a_body_is_of_its_hex_text() -> None:
    assert content_md5(b"") == "ZDQxZDhjZDk4ZjAwYjIwNGU5ODAwOTk4ZWNmODQyN2U="


@pytest.fixture
def admission() -> Admission:
    """The checks, with a lasting and a temporary key."""
    return Admission(Keys([Key("id", "secret"), Key("STS.id", "other", "token")]))


def signed(*, key_id: str = "id", secret: str = "secret", **headers: str | None) -> Request:
    """A request as it should be, but for the headers given (None: without it), which are signed as they are."""
    base = {"date": at(time.time()), "x-mns-version": "2015-06-06",
            "content-type": "text/xml;charset=UTF-8", "content-md5": content_md5(_BODY), "host": "localhost"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    whole = {name: value for name, value in (base | given).items() if value is not None}
    signature = sign(secret, string_to_sign("POST", _TARGET, whole))
    return Request("POST", _TARGET, {"authorization": f"MNS {key_id}:{signature}", **whole}, _BODY)


def at(moment_s: float) -> str:
    """Return a moment as a header has it."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def refusal(admission: Admission, request: Request) -> tuple[int, str]:
    """Return why the request is refused."""
    with pytest.raises(Refused) as caught:
        admission.check(request)
    return caught.value.status, caught.value.code


def test_a_right_request_comes_in(admission: Admission) -> None:
    admission.check(signed())
    admission.check(signed(key_id="STS.id", secret="other", security_token="token"))
    admission.check(signed(content_md5=None, content_type=None))


@pytest.mark.parametrize("change", [
    {"method": "PUT"},
    {"target": "/queues/jobs/messages?VisibilityTimeout=30&ReceiptHandle=A-b+c/d=="},
    {"target": _TARGET.replace("+", "%2B")},
    {"target": _TARGET + "&waitseconds=1"},
    {"headers": {"content-type": "text/xml"}},
    {"headers": {"content-md5": content_md5(b"another")}},
    {"headers": {"date": None}},  # a minute before: of now, and not of when the tests were collected
    {"headers": {"x-mns-more": "1"}},
], ids=["method", "order of the query", "encoding of the query", "length of the query", "type", "digest", "date",
        "another header"])
def test_a_request_changed_after_it_was_signed_is_refused(admission: Admission, change: dict[str, object]) -> None:
    request = signed()
    headers = change.pop("headers", {})
    assert isinstance(headers, dict)
    if "date" in headers:
        headers = {"date": at(time.time() - 60)}
    tampered = replace(request, headers=request.headers | headers, **change)  # type: ignore[arg-type]
    assert refusal(admission, tampered) == (403, "SignatureDoesNotMatch")


def test_a_body_changed_after_it_was_signed_is_refused(admission: Admission) -> None:
    assert refusal(admission, replace(signed(), body=_BODY + b" ")) == (400, "InvalidDegist")


@pytest.mark.parametrize(("given", "status", "code"), [
    ({"key_id": "unknown"}, 403, "InvalidAccessKeyId"),
    ({"secret": "wrong"}, 403, "SignatureDoesNotMatch"),
    ({"date": None}, 400, "MissingDateHeader"),
    ({"date": "yesterday"}, 400, "InvalidDateHeader"),
    ({"date": "Thu, 09 Jul 2015 03:01:34 GMT"}, 408, "TimeExpired"),
    ({"x_mns_version": None}, 400, "MissingVersionHeader"),
    ({"x_mns_version": "2014-07-08"}, 400, "InvalidVersionHeader"),
    ({"key_id": "STS.id", "secret": "other"}, 403, "InvalidAccessKeyId"),
    ({"key_id": "STS.id", "secret": "other", "security_token": "old"}, 403, "InvalidAccessKeyId"),
    ({"security_token": "token"}, 403, "InvalidAccessKeyId"),
], ids=["unknown key", "wrong secret", "no date", "no such date", "old", "no version", "old version", "no token",
        "wrong token", "needless token"])
def test_each_fault_of_a_request_has_its_code(
        admission: Admission, given: dict[str, str | None], status: int, code: str) -> None:
    assert refusal(admission, signed(**given)) == (status, code)


def test_of_several_faults_the_first_in_the_services_order_is_told(admission: Admission) -> None:
    worst = signed(key_id="unknown", secret="wrong", date=None, x_mns_version=None)
    fixes = [({"date": "Thu, 09 Jul 2015 03:01:34 GMT"}, "MissingDateHeader"),
             ({"date": at(time.time())}, "TimeExpired"),
             ({"x-mns-version": "2015-06-06"}, "MissingVersionHeader")]
    request = replace(worst, headers={name: text for name, text in worst.headers.items() if name != "authorization"})
    assert refusal(admission, request)[1] == "MissingAuthorizationHeader"
    request = worst
    for fix, code in fixes:
        assert refusal(admission, request)[1] == code
        request = replace(request, headers=request.headers | fix)
    assert refusal(admission, request)[1] == "InvalidAccessKeyId"


@pytest.mark.parametrize("header", ["", "id:c2ln", "AWS id:c2ln", "MNS id", "MNS :c2ln", "MNS id:"])
def test_an_authorization_of_another_shape_is_refused(header: str) -> None:
    with pytest.raises(Refused, match="InvalidAuthorizationHeader"):
        split_authorization(header)


def test_the_date_may_be_a_quarter_of_an_hour_off_either_way() -> None:
    made_s = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
    headers = {"date": "Wed, 25 Nov 2026 12:00:00 GMT"}
    for off_s in (-900, 0, 900):
        check_date(headers, now_s=made_s + off_s)
    for off_s in (-901, 901):
        with pytest.raises(Refused, match="TimeExpired"):
            check_date(headers, now_s=made_s + off_s)


def test_a_date_of_the_services_own_header_counts_instead_of_the_other() -> None:
    made_s = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
    check_date({"x-mns-date": "Wed, 25 Nov 2026 12:00:00 GMT", "date": "Thu, 09 Jul 2015 03:01:34 GMT"}, now_s=made_s)
    check_date({"x-mns-date": "Wed, 25 Nov 2026 12:00:00 GMT"}, now_s=made_s)


def test_the_server_can_pretend_that_clocks_differ(admission: Admission) -> None:
    admission.skew_s = 1000.0
    assert refusal(admission, signed()) == (408, "TimeExpired")


def test_no_secret_is_in_the_words_of_a_key_or_of_what_is_wrong_with_it() -> None:
    assert "hidden" not in repr(Key("id", "hidden", "hidden"))
    with pytest.raises(BadKeys) as caught:
        keys_of({"access_key_id": "", "access_key_secret": "hidden"})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("document", [[], "text", [1], {}, {"access_key_id": "id"}, {"access_key_id": 1,
                                                                                     "access_key_secret": "s"}])
def test_keys_of_another_shape_are_refused(document: object) -> None:
    with pytest.raises(BadKeys):
        Keys(keys_of(document))
