"""The local object server: its signatures are those of OSS, its errors, too, and it keeps and drops what it should."""

import base64
import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import alibabacloud_oss_v2 as sdk
import pytest
from alibabacloud_oss_v2.signer import SignerV4
from alibabacloud_oss_v2.types import Credentials, HttpRequest, SigningContext
from hypothesis import given
from hypothesis import strategies as st

from ops.mns_server import objects as server_module
from ops.mns_server.object_signature import Refusal, Signed, check, signature
from ops.mns_server.objects import ObjectServer

KEYS = [("id", "secret", ""), ("STS.id", "temporary", "token")]
NOW = 1_800_000_000.0

# Facts of the service's own SDKs (aliyun/alibabacloud-oss-python-sdk-v2 and its Go twin, tests of the V4 signer)
QUERY = "param1=value1&%2Bparam1=value3&%7Cparam1=value4&%2Bparam2=&%7Cparam2=&param2="
HEADERS = {"x-oss-head1": "value", "abc": "value", "zabc": "value", "xyz": "value", "content-type": "text/plain",
           "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
GOLDEN = [
    ("20231216T162057Z", {}, [], "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"),
    ("20231217T034736Z", {"x-oss-security-token": "token"}, [],
     "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"),
    ("20231216T172512Z", {}, ["abc", "zabc"], "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f"),
]


@pytest.mark.parametrize(("at", "more", "additional", "expected"), GOLDEN, ids=["plain", "token", "additional headers"])
def test_signatures_are_those_of_the_services_own_examples(at: str, more: dict[str, str], additional: list[str],
                                                           expected: str) -> None:
    request = Signed("PUT", "/bucket/1234+-/123/1.txt", QUERY, {**HEADERS, "x-oss-date": at, **more})
    assert signature(request, secret="sk", scope=f"{at[:8]}/cn-hangzhou/oss/aliyun_v4_request", time=at,
                     additional=additional) == expected


def signed(method: str = "PUT", resource: str = "/bucket/key", *, query: str = "", key_id: str = "id",
           secret: str = "secret", at: float = NOW, additional: tuple[str, ...] = (), **headers: str) -> Signed:
    """A signed request, made with our own signature, which the examples vouch for."""
    when = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{when[:8]}/cn-hangzhou/oss/aliyun_v4_request"
    sent = {"x-oss-date": when, "x-oss-content-sha256": "UNSIGNED-PAYLOAD", "content-type": "text/plain",
            **{name.replace("_", "-"): value for name, value in headers.items()}}
    value = signature(Signed(method, resource, query, sent), secret=secret, scope=scope, time=when, additional=additional)
    extra = f",AdditionalHeaders={';'.join(additional)}" if additional else ""
    sent["authorization"] = f"OSS4-HMAC-SHA256 Credential={key_id}/{scope}{extra},Signature={value}"
    return Signed(method, resource, query, sent)


def altered(request: Signed, **changes: Any) -> Signed:
    """The request after someone on its way changed it."""
    headers = {**request.headers, **{name.replace("_", "-"): value for name, value in changes.pop("headers", {}).items()}}
    parts = {"method": request.method, "resource": request.resource, "query": request.query, **changes}
    return Signed(parts["method"], parts["resource"], parts["query"], headers)


@pytest.mark.parametrize("request_", [
    signed(), signed("GET", "/bucket/中文 +/k.json", query="objectMeta"), signed(additional=("host",), host="127.0.0.1:80"),
    signed(at=NOW - 899), signed(at=NOW + 899),
    signed(key_id="STS.id", secret="temporary", x_oss_security_token="token")])
def test_what_is_signed_with_a_known_key_passes(request_: Signed) -> None:
    check(request_, KEYS, now=NOW)


ONE = signed(query="a=1&b=2", additional=("host",), host="here", x_oss_meta="m")


@pytest.mark.parametrize(("request_", "status", "code"), [
    (altered(ONE, method="GET"), 403, "SignatureDoesNotMatch"),
    (altered(ONE, resource="/bucket/kez"), 403, "SignatureDoesNotMatch"),
    (altered(ONE, resource="/other/key"), 403, "SignatureDoesNotMatch"),
    (altered(ONE, query="a=1&b=3"), 403, "SignatureDoesNotMatch"),
    (altered(ONE, query="a=1"), 403, "SignatureDoesNotMatch"),
    (altered(ONE, headers={"content_type": "text/html"}), 403, "SignatureDoesNotMatch"),
    (altered(ONE, headers={"content_md5": "x"}), 403, "SignatureDoesNotMatch"),
    (altered(ONE, headers={"x_oss_meta": "n"}), 403, "SignatureDoesNotMatch"),
    (altered(ONE, headers={"x_oss_more": "n"}), 403, "SignatureDoesNotMatch"),
    (altered(ONE, headers={"host": "there"}), 403, "SignatureDoesNotMatch"),
    (altered(ONE, headers={"x_oss_date": "20270115T080001Z"}), 403, "SignatureDoesNotMatch"),
    (signed(secret="other"), 403, "SignatureDoesNotMatch"),
    (signed(key_id="other"), 403, "InvalidAccessKeyId"),
    (signed(key_id="STS.id", secret="temporary"), 403, "InvalidSecurityToken"),
    (signed(key_id="STS.id", secret="temporary", x_oss_security_token="old"), 403, "InvalidSecurityToken"),
    (signed(x_oss_security_token="token"), 403, "InvalidSecurityToken"),
    (signed(at=NOW - 901), 403, "RequestTimeTooSkewed"),
    (signed(at=NOW + 901), 403, "RequestTimeTooSkewed"),
    (altered(ONE, headers={"x_oss_date": "yesterday"}), 403, "AccessDenied"),
    (altered(ONE, headers={"x_oss_content_sha256": "x"}), 400, "InvalidArgument"),
    (altered(ONE, headers={"authorization": "OSS id:signature"}), 400, "InvalidArgument"),
    (altered(ONE, headers={"authorization": ONE.headers["authorization"].replace("20270115", "20270114")}), 400,
     "InvalidArgument"),
    (Signed("GET", "/bucket/key", "", {}), 403, "AccessDenied"),
])
def test_what_is_not_signed_as_it_should_be_is_refused_as_oss_does(request_: Signed, status: int, code: str) -> None:
    with pytest.raises(Refusal) as raised:
        check(request_, KEYS, now=NOW)
    assert (raised.value.status, raised.value.code) == (status, code)


@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
       query=st.dictionaries(st.text("aA1-_.~+/| 中", min_size=1), st.text("bB2=&+ 文"), max_size=3))
def test_the_official_sdk_and_we_sign_alike(key: str, query: dict[str, str]) -> None:
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    request = HttpRequest("PUT", f"http://127.0.0.1/bucket/{quote(key)}?{pairs}")
    request.headers.update({"Content-Type": "text/plain", "x-oss-meta-a": "b"})
    SignerV4().sign(SigningContext(bucket="bucket", key=key, request=request, product="oss", region="cn-hangzhou",
                                   credentials=Credentials("STS.id", "temporary", "token"),
                                   signing_time=datetime.fromtimestamp(NOW, UTC)))
    headers = {name.lower(): value for name, value in request.headers.items()}
    check(Signed("PUT", f"/bucket/{key}", pairs, headers), KEYS, now=NOW)


# Over the wire


@pytest.fixture(params=["memory", "folder"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectServer]:
    """A running server, with either shelf."""
    with ObjectServer("127.0.0.1", 0, tmp_path / "objects" if request.param == "folder" else None, KEYS) as running:
        yield running


def client(server: ObjectServer) -> sdk.Client:
    """The official SDK's client of the server."""
    return sdk.Client(sdk.Config(region="cn-hangzhou", endpoint=f"http://127.0.0.1:{server.port}", use_path_style=True,
                                 credentials_provider=sdk.credentials.StaticCredentialsProvider("id", "secret")))


def refused(act: Callable[[], object]) -> Any:
    """The service's error that the SDK raises."""
    with pytest.raises(sdk.exceptions.OperationError) as raised:
        act()
    error = raised.value.unwrap()
    assert isinstance(error, sdk.exceptions.ServiceError)
    return error


class Raw:
    """A plain client on one kept connection, which signs."""

    def __init__(self, server: ObjectServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def ask(self, method: str, resource: str, body: Any = None, *, chunked: bool = False, query: str = "",
            **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Send, and return the answer and its body."""
        request = signed(method, resource, query=query, at=time.time(), **headers)
        self._connection.request(method, quote(resource) + (f"?{query}" if query else ""), body, dict(request.headers),
                                 encode_chunked=chunked)
        response = self._connection.getresponse()
        return response, response.read()


@pytest.fixture
def raw(server: ObjectServer) -> Iterator[Raw]:
    """A plain client of the server."""
    with Raw(server) as plain:
        yield plain


@pytest.mark.parametrize("key", ["a", "dir/a.json", "..a", "中文/键 +%&?#=.json", "k" * 1023])
@pytest.mark.parametrize("data", [b"", b"body", bytes(range(256)) * 1000], ids=["nothing", "short", "long"])
def test_the_official_sdk_puts_gets_heads_and_deletes(server: ObjectServer, key: str, data: bytes) -> None:
    oss = client(server)
    put = oss.put_object(sdk.PutObjectRequest("bucket", key, body=data))
    assert put.status_code == 200
    assert put.etag == f'"{hashlib.md5(data).hexdigest().upper()}"'
    got = oss.get_object(sdk.GetObjectRequest("bucket", key))
    with got.body as body:
        assert body.read() == data
    meta = oss.get_object_meta(sdk.GetObjectMetaRequest("bucket", key))
    assert (meta.content_length, meta.etag) == (len(data), put.etag)
    assert oss.head_object(sdk.HeadObjectRequest("bucket", key)).content_length == len(data)
    assert refused(lambda: oss.get_object(sdk.GetObjectRequest("other", key))).code == "NoSuchKey"
    for _ in range(2):
        assert oss.delete_object(sdk.DeleteObjectRequest("bucket", key)).status_code == 204
    gone = refused(lambda: oss.get_object(sdk.GetObjectRequest("bucket", key)))
    assert (gone.status_code, gone.code) == (404, "NoSuchKey")
    assert len(gone.request_id) == 24


@pytest.mark.parametrize("act", [
    lambda oss: oss.list_objects_v2(sdk.ListObjectsV2Request("bucket")),
    lambda oss: oss.get_object_acl(sdk.GetObjectAclRequest("bucket", "key")),
    lambda oss: oss.put_bucket(sdk.PutBucketRequest("bucket")),
], ids=["listing", "rights", "making a bucket"])
def test_what_the_server_leaves_out_says_that_it_is_not_implemented(server: ObjectServer,
                                                                    act: Callable[[sdk.Client], object]) -> None:
    oss = sdk.Client(client(server)._client._config, retry_max_attempts=1)
    error = refused(lambda: act(oss))
    assert (error.status_code, error.code) == (501, "NotImplemented")


def test_errors_are_the_xml_of_oss(raw: Raw) -> None:
    response, body = raw.ask("GET", "/bucket/<none> & such")
    assert response.status == 404
    assert response.getheader("Content-Type") == "application/xml"
    assert response.getheader("Server") == "AliyunOSS"
    error = ElementTree.fromstring(body)
    assert error.tag == "Error"
    told = {child.tag: child.text for child in error}
    assert told["Code"] == "NoSuchKey"
    assert told["Key"] == "<none> & such"
    assert told["RequestId"] == response.getheader("x-oss-request-id")
    assert {"Message", "HostId"} <= told.keys()


def test_a_kept_connection_stays_in_step_after_refusals_chunks_and_heads(raw: Raw) -> None:
    assert raw.ask("PUT", "/bucket/a", b"x" * 5000, query="acl=")[0].status == 501
    assert raw.ask("PUT", "/no/a", b"x" * 5000)[0].status == 400
    assert raw.ask("PUT", "/bucket/a", iter([b"one ", b"two"]), chunked=True, transfer_encoding="chunked")[0].status == 200
    response, body = raw.ask("HEAD", "/bucket/a")
    assert (response.status, response.getheader("Content-Length"), body) == (200, "7", b"")
    assert raw.ask("HEAD", "/bucket/none")[0].status == 404
    assert raw.ask("POST", "/bucket/a", b"x")[0].status == 501
    assert raw.ask("GET", "/bucket/a")[1] == b"one two"


def test_a_name_that_is_no_utf_8_is_refused(server: ObjectServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/bucket/%ff", headers=dict(signed("GET", at=time.time()).headers))
    response = connection.getresponse()
    assert (response.status, b"InvalidObjectName" in response.read()) == (400, True)
    connection.close()


def test_a_body_that_is_not_what_its_digest_says_is_refused(raw: Raw) -> None:
    digest = base64.b64encode(hashlib.md5(b"body").digest()).decode()
    assert raw.ask("PUT", "/bucket/a", b"body", content_md5=digest)[0].status == 200
    response, body = raw.ask("PUT", "/bucket/a", b"bodz", content_md5=digest)
    assert (response.status, b"InvalidDigest" in body) == (400, True)
    assert raw.ask("GET", "/bucket/a")[1] == b"body"


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: ObjectServer) -> None:
    with Raw(server) as plain:
        response, body = plain.ask("PUT", "/bucket/a", b"", content_length=str(server_module.LARGEST_BYTES + 1))
        assert (response.status, b"EntityTooLarge" in body) == (400, True)
        assert response.getheader("Connection") == "close"
    with Raw(server) as plain:
        assert plain.ask("PUT", "/bucket/a", iter([b"x\r\n"]), transfer_encoding="chunked")[0].status == 400


def test_an_upload_that_breaks_off_leaves_nothing(server: ObjectServer) -> None:
    request = signed("PUT", "/bucket/a", at=time.time())
    plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    plain.request("PUT", "/bucket/a", b"half", {**request.headers, "content-length": "8"})
    assert plain.sock is not None
    plain.sock.shutdown(1)  # no more comes
    assert plain.sock.recv(100) == b"", "the server ends the connection"
    plain.close()
    with Raw(server) as other:
        assert other.ask("GET", "/bucket/a")[0].status == 404


def test_of_buckets_that_are_named_there_are_no_others() -> None:
    with ObjectServer("127.0.0.1", 0, None, KEYS, buckets=["bodies"]) as server, Raw(server) as raw:
        assert raw.ask("PUT", "/bodies/a", b"x")[0].status == 200
        response, body = raw.ask("PUT", "/others/a", b"x")
        assert (response.status, b"NoSuchBucket" in body) == (404, True)


def test_a_function_may_give_the_keys_anew_for_each_request() -> None:
    keys = [("id", "old", "")]
    with ObjectServer("127.0.0.1", 0, None, lambda: keys) as server, Raw(server) as raw:
        assert raw.ask("PUT", "/bucket/a", b"x")[0].status == 403
        keys[0] = ("id", "secret", "")
        assert raw.ask("PUT", "/bucket/a", b"x")[0].status == 200


def test_objects_in_a_folder_outlive_the_server(tmp_path: Path) -> None:
    for number in range(2):
        with ObjectServer("127.0.0.1", 0, tmp_path, KEYS) as server, Raw(server) as raw:
            assert raw.ask("GET", "/bucket/a")[1] == b"x" if number else raw.ask("PUT", "/bucket/a", b"x")[0].status == 200
    assert [path.suffix for path in tmp_path.glob("*/*")] == [".object"], "nothing half written is left"


@pytest.mark.parametrize("folder", [True, False], ids=["folder", "memory"])
def test_objects_past_the_retention_are_dropped(folder: bool, tmp_path: Path) -> None:
    clock = [time.time()]
    folder_path = tmp_path if folder else None
    with ObjectServer("127.0.0.1", 0, folder_path, KEYS, retention_s=800, clock=lambda: clock[0]) as server, \
            Raw(server) as raw:
        raw.ask("PUT", "/bucket/old", b"x")
        clock[0] += 400
        raw.ask("PUT", "/bucket/young", b"x")
        clock[0] += 420
        assert raw.ask("GET", "/bucket/old")[0].status == 404
        assert raw.ask("GET", "/bucket/young")[0].status == 200
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == (1 if folder else 0)


def test_closing_ends_kept_connections_at_once_and_may_be_repeated() -> None:
    server = ObjectServer("127.0.0.1", 0, None, KEYS)
    with Raw(server) as raw:
        raw.ask("GET", "/bucket/a")
        before = threading.active_count()
        server.close()
        server.close()
        assert threading.active_count() <= before - 2, "neither its thread nor the connection's is left"
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            raw.ask("GET", "/bucket/a")


def test_a_port_that_is_taken_is_an_error_of_the_system() -> None:
    with ObjectServer("127.0.0.1", 0, None, KEYS) as server, pytest.raises(OSError, match="Address already in use"):
        ObjectServer("127.0.0.1", server.port, None, KEYS)
