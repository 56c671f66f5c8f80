"""The stores of long bodies: a folder, and OSS by its SDK against our object server.

The tests of what every store does run against the real service, too, if the environment has MNS_OSS_URL
(`oss://BUCKET/PREFIX?region=REGION`) and the keys, as `routing.mns.credentials.find` looks for them: then the fixture
`store` has the kind `real` beside `folder` and `local`. The keys need oss:PutObject, oss:GetObject and oss:DeleteObject.
"""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.mns_server.objects import ObjectServer
from routing.mns import oss, stores
from routing.mns.credentials import Credentials, CredentialsFileBad, FileProvider, StaticProvider, find
from routing.mns.errors import MnsError, Refused, Transient
from routing.mns.stores import (
    FolderStore,
    ObjectMissing,
    ObjectNameBad,
    Store,
    StoreAddressBad,
    StoreRefused,
    StoreUnavailable,
    open_store,
)

KINDS = ["folder", "local", *(["real"] if os.environ.get("MNS_OSS_URL") else [])]
SECRET = "kA9-a-secret-of-the-tests"
TOKEN = "CAIS-a-token-of-the-tests"
BAD_NAMES = ["", ".", "..", "../up", "a/../b", "/a", "a/", "a//b", ".hidden", "a/.hidden", "a b", "a\n", "中文", "a\\b",
             "a\0", "x" * 201]


@pytest.fixture
def keys() -> list[tuple[str, str, str]]:
    """What the object server knows; a test may change it."""
    return [("id", SECRET, "")]


@pytest.fixture
def objects(keys: list[tuple[str, str, str]]) -> Iterator[ObjectServer]:
    """A running object server with one bucket."""
    with ObjectServer("127.0.0.1", 0, None, lambda: keys, buckets={"bodies"}) as server:
        yield server


def address(server: ObjectServer, *, bucket: str = "bodies", prefix: str = "pre/fix") -> str:
    """The URL of a store at the local server."""
    return f"oss://{bucket}/{prefix}?region=cn-hangzhou&endpoint=http://127.0.0.1:{server.port}"


def local(server: ObjectServer, *, key_id: str = "id", secret: str = SECRET, token: str = "", bucket: str = "bodies",
          prefix: str = "pre/fix") -> Store:
    """A store at the local server."""
    return open_store(address(server, bucket=bucket, prefix=prefix), StaticProvider(key_id, secret, security_token=token))


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, objects: ObjectServer) -> Iterator[Store]:
    """A store of each kind."""
    if request.param == "folder":
        yield open_store((tmp_path / "bodies").as_uri())
        return
    opened = local(objects) if request.param == "local" else open_store(os.environ["MNS_OSS_URL"], find())
    yield opened
    assert isinstance(opened, oss.OssStore)
    opened.close()


def fresh() -> str:
    """A name that no other test, or run of it, has used."""
    return f"tests-{uuid.uuid4().hex}/{uuid.uuid4().hex}"


@pytest.mark.parametrize("data", [b"", b"{}", "一个很长的提示".encode(), bytes(range(256)) * 4096],
                         ids=["nothing", "short", "Chinese", "1 MiB"])
def test_what_was_put_comes_back_until_it_is_deleted(store: Store, data: bytes) -> None:
    name = fresh()
    store.put(name, data)
    assert store.get(name) == data
    assert store.get(name) == data
    store.delete(name)
    with pytest.raises(ObjectMissing, match=name):
        store.get(name)


def test_what_is_put_a_second_time_replaces_the_first(store: Store) -> None:
    name = fresh()
    store.put(name, b"a longer first")
    store.put(name, b"second")
    assert store.get(name) == b"second"
    store.delete(name)


def test_deleting_what_is_gone_is_fine(store: Store) -> None:
    name = fresh()
    store.delete(name)
    store.put(name, b"x")
    store.delete(name)
    store.delete(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_lead_out_of_the_store_is_refused(store: Store, name: str) -> None:
    acts: list[Callable[[], object]] = [lambda: store.put(name, b"x"), lambda: store.get(name), lambda: store.delete(name)]
    for act in acts:
        with pytest.raises(ObjectNameBad):
            act()


def test_many_threads_share_a_store(store: Store) -> None:
    def round_trip(number: int) -> bytes:
        name, data = fresh(), f"body {number}".encode() * 1000
        store.put(name, data)
        got = store.get(name)
        store.delete(name)
        assert got == data
        return got

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(round_trip, range(48)))) == 48


def test_a_store_goes_on_in_a_forked_child_and_in_its_parent(store: Store) -> None:
    def take_turns(name: str, data: bytes) -> bool:
        store.put(name, data)
        return all(store.get(name) == data for _ in range(20))

    parents, childs = fresh(), fresh()
    store.put(parents, b"a connection is open now")
    parents_client = getattr(store, "_made", None)
    child = os.fork()
    if child == 0:  # its way out is _exit, whatever happens: pytest must not go on twice
        try:
            fine = take_turns(childs, b"of the child" * 1000)
            os._exit(0 if fine and (parents_client is None or store._made is not parents_client) else 2)
        finally:
            os._exit(1)
    assert take_turns(parents, b"of the parent"), "on a socket of its own, or the answers would be the child's"
    assert os.waitpid(child, 0)[1] == 0
    for name in (parents, childs):
        store.delete(name)


def test_the_sdk_of_oss_is_loaded_only_when_a_bucket_is_opened(tmp_path: Path) -> None:
    program = (f"import sys; from routing.mns.stores import open_store; open_store({tmp_path.as_uri()!r}).put('a', b'x')\n"
               "assert not any(name.startswith('alibabacloud_oss') for name in sys.modules)")
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent)


# The folder


def test_a_reader_never_sees_half_an_object(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    bodies = {bytes([letter]) * 300_000 for letter in b"ab"}
    store.put("body", min(bodies))
    done = threading.Event()

    def write() -> None:
        for _ in range(20):
            for body in bodies:
                store.put("body", body)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set():
        assert store.get("body") in bodies
        reads += 1
    writer.join()
    assert reads > 0
    assert [path.name for path in tmp_path.iterdir()] == ["body.body"], "nothing half written is left"


def test_objects_in_a_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    open_store((tmp_path / "new" / "folder").as_uri()).put("queue/body", b"x")
    for path in ("new", "new/folder", "new/folder/queue", "new/folder/queue/body.body"):
        assert (tmp_path / path).stat().st_mode & 0o077 == 0, path


def test_leftovers_in_a_folder_are_dropped_after_the_days_that_the_url_says(tmp_path: Path) -> None:
    clock = [time.time()]
    store = FolderStore(tmp_path, keep_days=2, now=lambda: clock[0])
    (tmp_path / "queue").mkdir()
    for name, age_days in (("old.body", 2.1), ("queue/old.body", 2.1), ("queue/young.body", 1.9), (".crashed.part", 2.1),
                           ("not-ours.txt", 1000), ("queue/body", 1000)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (clock[0] - age_days * 86400,) * 2)
    store.put("first", b"x")
    assert (tmp_path / "old.body").exists(), "it looks once an hour, not with each put"
    clock[0] += 3600
    store.put("queue/second", b"x")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "first.body", "queue/second.body", "queue/young.body", "not-ours.txt", "queue/body"}
    clock[0] -= 30 * 86400  # set back, as after a start with a wrong clock
    os.utime(tmp_path / "first.body", (clock[0] - 3 * 86400,) * 2)
    store.put("third", b"x")
    assert not (tmp_path / "first.body").exists(), "the next look is not put off by a month"


def test_days_in_the_url_of_a_folder_are_kept_to(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    for days, left in (("", True), ("?keep_days=3", True), ("?keep_days=2", False)):
        store = open_store(f"{url}{days}")
        assert isinstance(store, FolderStore)
        store.put("old", b"x")
        os.utime(tmp_path / "old.body", (time.time() - 2.5 * 86400,) * 2)
        store._swept_at -= 3601
        store.put("new", b"x")
        assert (tmp_path / "old.body").exists() is left, days


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = open_store((tmp_path / "file").as_uri())
    for act in (lambda: store.put("a", b"x"), lambda: store.get("a"), lambda: store.delete("a")):
        with pytest.raises(StoreUnavailable, match=r"cannot (write|read|delete) a: .*(Not a directory|File exists)"):
            act()


# Addresses


@pytest.mark.parametrize(("url", "says"), [
    ("s3://bucket/x", "begins with oss:// or file:///"),
    ("/var/lib/bodies", "begins with oss:// or file:///"),
    ("file://host/var/lib", "as file:///var/lib/bodies"),
    ("file:relative", "as file:///var/lib/bodies"),
    ("file:///", "as file:///var/lib/bodies"),
    ("file:///tmp/x?keep=3", "no option keep; it may have keep_days"),
    ("file:///tmp/x?keep_days=0", "at least 1"),
    ("oss://b/x?region=cn-hangzhou", "names no bucket"),
    ("oss://Bucket/x?region=cn-hangzhou", "names no bucket"),
    ("oss:///x?region=cn-hangzhou", "names no bucket"),
    ("oss://bucket/x", "names no region"),
    ("oss://bucket/x?region=", "names no region"),
    ("oss://bucket/x?region=cn hangzhou", "names no region"),
    ("oss://bucket/x?region=cn-hangzhou&internal=1", "no option internal; it may have endpoint, region"),
    ("oss://bucket/x?region=cn-hangzhou&endpoint=ftp://host", "the endpoint of a store is as https://"),
    ("oss://bucket/x?region=cn-hangzhou&endpoint=http://me:pass@host", "without a user"),
    ("oss://id:pass@bucket/x?region=cn-hangzhou", "holds no keys"),
])
def test_an_address_that_is_none_says_what_it_should_be(url: str, says: str) -> None:
    with pytest.raises(StoreAddressBad) as raised:
        open_store(url, StaticProvider("id", SECRET))
    assert says in str(raised.value)
    assert "pass" not in str(raised.value).replace("user:password@", "")


def test_a_bucket_without_keys_says_that_it_needs_them() -> None:
    with pytest.raises(StoreAddressBad, match="needs access keys"):
        open_store("oss://bucket/x?region=cn-hangzhou")


def test_a_bucket_in_alibabas_network_is_addressed_by_host_name_and_others_by_path() -> None:
    for endpoint, by_path in (("", False), ("https://oss-cn-hangzhou-internal.aliyuncs.com", False),
                              ("http://127.0.0.1:9000", True), ("http://objects.lan:9000", True),
                              ("https://aliyuncs.com.example.net", True)):
        assert oss._is_alibaba(endpoint) is not by_path


# OSS


def test_stores_with_other_prefixes_do_not_see_each_others_objects(objects: ObjectServer) -> None:
    one, two, none = (local(objects, prefix=prefix) for prefix in ("one", "two", ""))
    one.put("a", b"x")
    with pytest.raises(ObjectMissing):
        two.get("a")
    assert none.get("one/a") == b"x"


def test_keys_and_token_are_asked_for_with_each_request(objects: ObjectServer, keys: list[tuple[str, str, str]]) -> None:
    class Rotating:
        def get_credentials(self) -> Credentials:
            return Credentials(*keys[0])

    store = open_store(address(objects), Rotating())
    for generation in ("one", "two"):
        keys[0] = (f"STS.{generation}", f"secret-{generation}", f"token-{generation}")
        store.put(generation, b"x")
        assert store.get(generation) == b"x"


@pytest.mark.parametrize(("wrong", "says"), [
    ({"secret": "other"}, "SignatureDoesNotMatch, status 403, request .*: the access key secret does not fit the id"),
    ({"key_id": "other"}, "InvalidAccessKeyId, status 403, request .*: the access key id is not known"),
    ({"token": "other"}, "InvalidSecurityToken, status 403, request .*: the STS token does not fit the keys"),
    ({"bucket": "none-such"}, "NoSuchBucket, status 404, request .*: there is no such bucket; create it in the region"),
], ids=["secret", "id", "token", "bucket"])
def test_what_the_service_refuses_says_what_to_do(objects: ObjectServer, wrong: dict[str, str], says: str) -> None:
    store = local(objects, **wrong)
    for act in (lambda: store.put("a", b"x"), lambda: store.get("a"), lambda: store.delete("a")):
        with pytest.raises(StoreRefused, match=says) as raised:
            act()
        assert isinstance(raised.value, Refused)
        assert not isinstance(raised.value, Transient)


def test_a_clock_that_is_off_is_named(keys: list[tuple[str, str, str]]) -> None:
    with ObjectServer("127.0.0.1", 0, None, keys, clock=lambda: 1_500_000_000.0) as objects, \
            pytest.raises(StoreRefused, match=r"RequestTimeTooSkewed.*this machine's clock is more than 15 minutes off"):
        local(objects).put("a", b"x")


def test_an_unreachable_service_may_be_tried_again(objects: ObjectServer) -> None:
    store = local(objects)
    objects.close()
    with pytest.raises(StoreUnavailable, match=r"no answer \(ConnectionRefusedError\)") as raised:
        store.put("a", b"x")
    assert isinstance(raised.value, Transient)


@contextmanager
def answering(status: int, body: bytes, *, announced: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything alike, and closes. Yields its URL and the methods it was asked with."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.command)
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body) if announced is None else announced))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"oss://bodies/x?region=cn-hangzhou&endpoint=http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_failing_service_or_proxy_is_tried_thrice_and_may_be_tried_again() -> None:
    with answering(502, b"<html><body>Bad Gateway</body></html>") as (url, asked):
        with pytest.raises(StoreUnavailable, match=r"status 502, request without an id; it may pass"):
            open_store(url, StaticProvider("id", SECRET)).get("a")
        assert asked == ["GET"] * 3


def test_an_answer_that_breaks_off_is_an_error_and_no_short_body() -> None:
    with answering(200, b"only so much", announced=1000) as (url, _), pytest.raises(StoreUnavailable, match="no answer"):
        open_store(url, StaticProvider("id", SECRET)).get("a")


def test_an_object_too_large_to_be_a_body_is_not_read_whole(objects: ObjectServer, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LARGEST_BYTES", 100)
    monkeypatch.setattr(oss, "LARGEST_BYTES", 100)
    for store in (local(objects), open_store(tmp_path.as_uri())):
        store.put("fits", b"x" * 100)
        store.put("large", b"x" * 101)
        assert store.get("fits") == b"x" * 100
        with pytest.raises(StoreRefused, match="larger than the 100 bytes that are read"):
            store.get("large")


def test_proxies_and_netrc_of_the_environment_do_not_matter(objects: ObjectServer, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = local(objects)
        store.put("a", b"x")
        assert store.get("a") == b"x"


def test_the_fault_of_a_credentials_file_comes_through_as_what_it_is(objects: ObjectServer, tmp_path: Path) -> None:
    store = open_store(address(objects), FileProvider(tmp_path / "keys.json"))
    with pytest.raises(CredentialsFileBad, match=r"keys\.json cannot be read: No such file"):
        store.put("a", b"x")


def test_no_secret_is_told_by_a_store_or_its_errors(objects: ObjectServer, keys: list[tuple[str, str, str]]) -> None:
    keys[0] = ("id", "another", TOKEN)
    store = local(objects, token=TOKEN)
    with pytest.raises(MnsError) as raised:
        store.put("a", b"x")
    told = repr(store) + "".join(traceback.format_exception(raised.value))
    assert "SignatureDoesNotMatch" in told
    assert SECRET not in told
    assert TOKEN not in told
