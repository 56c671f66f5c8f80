"""Access keys: where they are looked for, how they are renewed while a process runs, and that they are never told."""

import http.server
import json
import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mns.mns_client import MNSClient
from mns.mns_http import RequestInternal
from mns.mns_request import RequestBase

from ops.waiting import wait_until
from routing.mns.credentials import (
    Credentials,
    CredentialsExpired,
    CredentialsFileBad,
    CredentialsIncomplete,
    CredentialsUnusable,
    FileProvider,
    NoCredentials,
    Provider,
    RoleProvider,
    RoleUnavailable,
    StaticProvider,
    find,
)
from routing.mns.errors import Refused
from tests.mns_transport import HandClock

SECRET = "kA9-a-secret-of-the-tests"
TOKEN = "CAIS-a-token-of-the-tests"
NOW = 1_800_000_000.0
DEAD = "http://127.0.0.1:9"  # nobody listens there


class MetadataServer:
    """The metadata server of an ECS instance with the role `worker`, in the hardened mode."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.role = "worker"
        self.keys: dict[str, Any] = {}
        self.refuses = 0  # a status that it answers with instead
        self.gate = threading.Event()  # it answers once this is set
        self.gate.set()
        self.rotate(1, ends_in_s=3600)
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.answer("session-token" if self.headers["X-aliyun-ecs-metadata-token-ttl-seconds"] else None)

            def do_GET(self) -> None:
                if self.headers["X-aliyun-ecs-metadata-token"] != "session-token":
                    self.answer(None, status=403)
                elif self.path == "/latest/meta-data/ram/security-credentials/":
                    self.answer(server.role or None)
                elif self.path == f"/latest/meta-data/ram/security-credentials/{server.role}":
                    self.answer(json.dumps(server.keys))
                else:
                    self.answer(None)

            def answer(self, text: str | None, *, status: int = 404) -> None:
                server.asked.append(f"{self.command} {self.path}")
                server.gate.wait(10)
                self.send_response(server.refuses or (200 if text is not None else status))
                self.end_headers()
                self.wfile.write((text or "none such").encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def rotate(self, generation: int, *, ends_in_s: float) -> None:
        """Hand out other keys from now on, which end so long after NOW."""
        self.keys = {"Code": "Success", "AccessKeyId": f"STS.{generation}", "AccessKeySecret": f"{SECRET}-{generation}",
                     "SecurityToken": f"{TOKEN}-{generation}", "LastUpdated": "2026-11-25T12:00:00Z",
                     "Expiration": datetime.fromtimestamp(NOW + ends_in_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still until it is set."""
    return HandClock(NOW)


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    """A running metadata server."""
    server = MetadataServer()
    yield server
    server.close()


def write(path: Path, document: Any) -> Path:
    """Put the document into a new file and rename it to `path`, as whoever renews keys does."""
    fresh = path.with_suffix(".new")
    fresh.write_text(document if isinstance(document, str) else json.dumps(document))
    fresh.replace(path)
    return path


def pair(key_id: str = "LTAI", **more: Any) -> dict[str, Any]:
    """The document of a file of keys."""
    return {"access_key_id": key_id, "access_key_secret": SECRET, **more}


def key_id(provider: Provider) -> str:
    """The id of the keys that it gives now."""
    return provider.get_credentials().get_access_key_id()


# Where they are looked for


class Theirs:
    """A provider as Alibaba's own, whose credentials have the SDK's methods and a token that may be None."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def get_credentials(self) -> "Theirs":
        """As the SDK asks."""
        return self

    def get_access_key_id(self) -> str:
        """As the SDK asks."""
        return "theirs"

    def get_access_key_secret(self) -> str:
        """As the SDK asks."""
        return SECRET

    def get_security_token(self) -> str | None:
        """As the SDK asks."""
        return self.token


def test_keys_are_looked_for_in_the_url_then_at_a_provider_in_a_file_the_environment_and_the_instances_role(
        tmp_path: Path, metadata: MetadataServer) -> None:
    places: dict[str, dict[str, Any]] = {
        "of-url": {"user": "of-url", "password": SECRET}, "theirs": {"credentials": Theirs()},
        "of-file": {"file": write(tmp_path / "keys.json", pair("of-file"))},
        "of-env": {"environ": {"ALIBABA_CLOUD_ACCESS_KEY_ID": "of-env", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}},
        "STS.1": {"metadata_url": metadata.url}}
    while places:
        given = {name: value for place in places.values() for name, value in place.items()}
        expected = next(iter(places))
        assert key_id(find(**{"environ": {}, "metadata_url": DEAD, **given})) == expected
        del places[expected]


def test_without_keys_anywhere_the_error_lists_where_they_were_looked_for() -> None:
    with pytest.raises(NoCredentials) as raised:
        find(environ={}, metadata_url=DEAD)
    for place in ("the URL has no userinfo", "no credentials provider and no credentials file is set",
                  "ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not in the environment",
                  f"ECS instance role by {DEAD}: no answer", "ConnectionRefusedError", "Set one of them"):
        assert place in str(raised.value)
    assert isinstance(raised.value, Refused), "trying again is of no use"


def test_the_instances_role_is_not_asked_for_where_the_environment_forbids_it(metadata: MetadataServer) -> None:
    with pytest.raises(NoCredentials, match="not asked for, as ALIBABA_CLOUD_ECS_METADATA_DISABLED says"):
        find(environ={"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}, metadata_url=metadata.url)
    assert metadata.asked == []


def test_the_environment_may_name_the_role(metadata: MetadataServer) -> None:
    assert key_id(find(environ={"ALIBABA_CLOUD_ECS_METADATA": "worker"}, metadata_url=metadata.url)) == "STS.1"
    assert metadata.asked == ["PUT /latest/api/token", "GET /latest/meta-data/ram/security-credentials/worker"]


@pytest.mark.parametrize(("given", "says"), [
    ({"user": "id"}, "the URL's userinfo: access_key_secret is missing"),
    ({"password": SECRET}, "the URL's userinfo: access_key_id is missing"),
    ({"user": "id", "password": f"{SECRET}\n"}, "the URL's userinfo: access_key_secret holds a blank, a line break"),
    ({"environ": {"ALIBABA_CLOUD_ACCESS_KEY_ID": "id"}}, "the environment: ALIBABA_CLOUD_ACCESS_KEY_SECRET is missing"),
    ({"environ": {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}}, "the environment: ALIBABA_CLOUD_ACCESS_KEY_ID is missing"),
    ({"environ": {"ALIBABA_CLOUD_ACCESS_KEY_ID": "id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET,
                  "ALIBABA_CLOUD_SECURITY_TOKEN": f"{TOKEN} x"}},
     "the environment: ALIBABA_CLOUD_SECURITY_TOKEN holds a blank"),
    ({"credentials": StaticProvider("id", SECRET), "file": "/nowhere"}, None),
])
def test_a_place_that_has_only_part_of_the_keys_is_an_error_and_no_reason_to_look_on(given: Mapping[str, Any],
                                                                                     says: str | None) -> None:
    if says is None:
        assert key_id(find(**given)) == "id"
        return
    with pytest.raises(CredentialsIncomplete) as raised:
        find(**{"environ": {}, "metadata_url": DEAD, **given})
    assert says in str(raised.value)
    assert SECRET not in str(raised.value)


def signed_headers(provider: Provider) -> dict[str, str]:
    """The headers of a request of the official SDK that asks the provider for keys."""
    client = MNSClient("http://127.0.0.1:9", credentials_provider=provider)
    request = RequestInternal("GET", "/queues/q")
    client.build_header(RequestBase(), request)
    return request.header


@pytest.mark.parametrize("token", [None, "", TOKEN])
def test_the_sdk_of_mns_signs_with_each_provider_with_or_without_a_token(token: str | None, tmp_path: Path) -> None:
    environ = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET,
               **({"ALIBABA_CLOUD_SECURITY_TOKEN": token} if token is not None else {})}
    file = write(tmp_path / "keys.json", pair("id", security_token=token))
    providers = [StaticProvider("id", SECRET, security_token=token), find(credentials=Theirs(token)), find(file=file),
                 find(environ=environ)]
    for provider in providers:
        headers = signed_headers(provider)
        assert headers["Authorization"].startswith(f"MNS {key_id(provider)}:")
        assert headers.get("security-token", "none") == (token or "none"), repr(provider)


# A file


@pytest.mark.parametrize(("content", "says"), [
    ("", "is not JSON; it should be an object with access_key_id and access_key_secret"),
    (f'{{"access_key_secret": "{SECRET}"', "is not JSON"),
    (f'"{SECRET}"', "holds no JSON object"),
    ("[]", "holds no JSON object"),
    (json.dumps([SECRET]), "holds no JSON object"),
    ("{}", "access_key_id is missing; access_key_secret is missing"),
    (json.dumps({"access_key_secret": SECRET}), ": access_key_id is missing"),
    (json.dumps({"access_key_id": "id", "access_key_secert": SECRET}), ": access_key_secret is missing"),
    (json.dumps({"access_key_id": "id", "access_key_secret": 5}), "access_key_secret is not text"),
    (json.dumps({"access_key_id": "id", "access_key_secret": f"{SECRET} "}), "access_key_secret holds a blank"),
    (json.dumps(pair(security_token=["x"])), "security_token is not text"),
    (json.dumps(pair(expiration="tomorrow")), "expiration is neither a time such as"),
    (json.dumps(pair(expiration=True)), "expiration is neither a time such as"),
    (b"\xff\xfe".decode("latin-1"), "is not JSON"),
])
def test_a_file_without_good_keys_is_named_with_what_it_lacks_and_never_with_what_it_holds(
        content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content.encode("latin-1"))
    for read in (lambda: find(file=path), FileProvider(path).fetch):
        with pytest.raises(CredentialsFileBad) as raised:
            read()
        assert str(path) in str(raised.value)
        assert says in str(raised.value)
        assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_file_that_is_missing_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsFileBad, match=rf"credentials file {tmp_path}/none.json cannot be read: No such file"):
        find(file=tmp_path / "none.json")
    with pytest.raises(CredentialsFileBad, match=rf"credentials file {tmp_path} cannot be read: Is a directory"):
        find(file=tmp_path)


def test_of_a_list_of_keys_the_first_is_used(tmp_path: Path) -> None:
    assert key_id(find(file=write(tmp_path / "keys.json", [pair("first"), pair("second")]))) == "first"


def test_a_file_that_changes_is_read_again_at_once(tmp_path: Path, clock: HandClock) -> None:
    path = write(tmp_path / "keys.json", pair("one", security_token=f"{TOKEN}-1"))
    provider = FileProvider(path, now=clock)
    assert provider.get_credentials().get_security_token() == f"{TOKEN}-1"
    write(path, pair("two", security_token=f"{TOKEN}-2"))
    assert provider.get_credentials().get_access_key_id() == "two"
    assert provider.get_credentials().get_security_token() == f"{TOKEN}-2"


@pytest.mark.parametrize("spoil", [lambda path: path.write_text('{"access_key_'), Path.unlink],
                         ids=["half written", "gone"])
def test_while_a_changed_file_is_no_good_the_keys_held_go_on_and_the_log_says_so_once(
        spoil: Callable[[Path], object], tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="routing.mns")
    path = write(tmp_path / "keys.json", pair("one"))
    provider = FileProvider(path, now=clock)
    assert key_id(provider) == "one"
    spoil(path)
    for _ in range(5):
        assert key_id(provider) == "one"
        clock.now_s += 2
    assert len(caplog.messages) == 1
    assert f"credentials file {path}" in caplog.text
    assert "going on with the keys held, which are good until they are withdrawn" in caplog.text
    write(path, pair("two"))
    assert key_id(provider) == "two"
    assert "keys fetched again" in caplog.messages[-1]
    assert SECRET not in caplog.text


def test_a_file_that_was_no_good_from_the_start_is_used_as_soon_as_it_is(tmp_path: Path, clock: HandClock) -> None:
    path = tmp_path / "keys.json"
    provider = FileProvider(path, now=clock)
    for _ in range(2):
        with pytest.raises(CredentialsFileBad):
            provider.get_credentials()
    write(path, pair("late"))
    assert key_id(provider) == "late"


@pytest.mark.parametrize("expiration", [NOW + 100, datetime.fromtimestamp(NOW + 100, UTC).isoformat(),
                                        datetime.fromtimestamp(NOW + 100, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                                        datetime.fromtimestamp(NOW + 100, UTC).strftime("%Y-%m-%dT%H:%M:%S")])
def test_before_the_keys_of_a_file_expire_it_is_read_again_even_if_it_looks_the_same(
        expiration: Any, tmp_path: Path, clock: HandClock) -> None:
    path = write(tmp_path / "keys.json", pair("one", security_token=TOKEN, expiration=expiration))
    provider = FileProvider(path, now=clock)
    assert key_id(provider) == "one"
    stat = path.stat()
    path.write_text(path.read_text().replace('"one"', '"two"'))  # in place, and the times set back: a file system of a
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # coarse clock shows no change
    assert key_id(provider) == "one"
    clock.now_s = NOW + 41
    assert key_id(provider) == "two"


def test_keys_past_their_end_are_not_used_and_the_error_says_when_that_was(tmp_path: Path, clock: HandClock) -> None:
    path = write(tmp_path / "keys.json", pair("one", security_token=TOKEN, expiration=NOW + 100))
    provider = FileProvider(path, now=clock)
    clock.now_s = NOW + 99
    assert key_id(provider) == "one"
    clock.now_s = NOW + 100
    with pytest.raises(CredentialsExpired, match=rf"credentials file {path}: the keys expired at 2027-01-15 08:01:40 UTC"):
        provider.get_credentials()
    write(path, pair("two", security_token=TOKEN, expiration=NOW + 900))
    assert key_id(provider) == "two"


# The instance's role


def test_the_roles_keys_are_asked_for_with_a_session_token_and_kept(metadata: MetadataServer, clock: HandClock) -> None:
    provider = RoleProvider(url=metadata.url, now=clock)
    for _ in range(3):
        keys = provider.get_credentials()
        assert (keys.access_key_id, keys.access_key_secret, keys.security_token) == (
            "STS.1", f"{SECRET}-1", f"{TOKEN}-1")
        assert keys.expires_at == NOW + 3600
    assert metadata.asked == ["PUT /latest/api/token", "GET /latest/meta-data/ram/security-credentials/",
                              "GET /latest/meta-data/ram/security-credentials/worker"]


def test_the_roles_keys_are_renewed_ten_minutes_before_they_end(metadata: MetadataServer, clock: HandClock) -> None:
    provider = RoleProvider(url=metadata.url, now=clock)
    assert key_id(provider) == "STS.1"
    metadata.rotate(2, ends_in_s=7200)
    clock.now_s = NOW + 2999
    assert key_id(provider) == "STS.1"
    clock.now_s = NOW + 3000
    assert key_id(provider) == "STS.2"
    assert signed_headers(provider)["security-token"] == f"{TOKEN}-2"


def test_while_the_metadata_server_fails_the_keys_held_go_on_until_their_end(
        metadata: MetadataServer, clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="routing.mns")
    provider = RoleProvider(url=metadata.url, now=clock)
    assert key_id(provider) == "STS.1"
    metadata.refuses = 500
    asked = len(metadata.asked)
    for seconds in (3000, 3001, 3009):
        clock.now_s = NOW + seconds
        assert key_id(provider) == "STS.1"
    assert len(metadata.asked) == asked + 1, "it is asked every ten seconds, not with each request"
    assert len(caplog.messages) == 1
    assert "status 500 for PUT /latest/api/token; going on with the keys held, which are good until 2027" in caplog.text
    clock.now_s = NOW + 3600
    for _ in range(2):
        with pytest.raises(RoleUnavailable, match="status 500"):
            provider.get_credentials()
    metadata.refuses = 0
    metadata.rotate(2, ends_in_s=7200)
    clock.now_s += 10
    assert key_id(provider) == "STS.2"
    assert SECRET not in caplog.text
    assert TOKEN not in caplog.text


def test_if_the_clock_is_set_back_the_next_fetch_is_not_put_off(metadata: MetadataServer, clock: HandClock) -> None:
    metadata.refuses = 500
    provider = RoleProvider(url=metadata.url, now=clock)
    with pytest.raises(RoleUnavailable):
        provider.get_credentials()
    metadata.refuses = 0
    clock.now_s -= 86400
    assert key_id(provider) == "STS.1"


def test_many_threads_cause_one_fetch(metadata: MetadataServer, clock: HandClock) -> None:
    provider = RoleProvider(url=metadata.url, now=clock)
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: key_id(provider), range(100))) == {"STS.1"}
    assert len(metadata.asked) == 3


def test_while_one_thread_renews_keys_that_are_still_good_the_others_do_not_wait(
        metadata: MetadataServer, clock: HandClock) -> None:
    provider = RoleProvider(url=metadata.url, now=clock, timeout_s=10)
    assert key_id(provider) == "STS.1"
    metadata.rotate(2, ends_in_s=7200)
    clock.now_s = NOW + 3100
    metadata.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(key_id, provider)
        wait_until(lambda: len(metadata.asked) == 4, timeout_s=10, what="the renewal to be asked for", every_s=0.01)
        assert not renewing.done()
        assert key_id(provider) == "STS.1"
        metadata.gate.set()
        assert renewing.result() == "STS.2"


@pytest.mark.parametrize(("change", "says"), [
    ({"role": ""}, "the instance has no such RAM role"),
    ({"refuses": 403}, "status 403 for PUT /latest/api/token"),
    ({"keys": {"Code": "Failed"}}, "Code is 'Failed'; AccessKeyId is missing; AccessKeySecret is missing"),
    ({"keys": {"Code": "Success", "AccessKeyId": "x", "AccessKeySecret": SECRET, "Expiration": "2026-11-25T12:00:00Z"}},
     "SecurityToken is missing"),
    ({"keys": {"Code": "Success", "AccessKeyId": "x", "AccessKeySecret": SECRET, "SecurityToken": TOKEN}},
     "Expiration is not a time"),
    ({"keys": [SECRET]}, "is not a JSON object"),
])
def test_a_metadata_server_that_gives_no_keys_is_told_as_it_is(change: Mapping[str, Any], says: str,
                                                               metadata: MetadataServer) -> None:
    for name, value in change.items():
        setattr(metadata, name, value)
    with pytest.raises(RoleUnavailable) as raised:
        RoleProvider(url=metadata.url).get_credentials()
    assert says in str(raised.value)
    told = "".join(traceback.format_exception(raised.value))
    assert SECRET not in told
    assert TOKEN not in told


def test_proxies_of_the_environment_never_see_the_roles_keys(metadata: MetadataServer, clock: HandClock,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", DEAD)
    assert key_id(RoleProvider(url=metadata.url, now=clock)) == "STS.1"


# Secrets, and forks


def test_no_repr_tells_a_secret(tmp_path: Path, metadata: MetadataServer, clock: HandClock) -> None:
    providers = [StaticProvider("id", SECRET, security_token=TOKEN), find(credentials=Theirs(TOKEN)),
                 FileProvider(write(tmp_path / "keys.json", pair(security_token=TOKEN))),
                 RoleProvider(url=metadata.url, now=clock)]
    for provider in providers:
        keys = provider.get_credentials()
        for told in (repr(provider), str(provider), repr(keys), str(keys), f"{vars(provider)}"):
            assert SECRET not in told
            assert TOKEN not in told
    assert repr(Credentials("id", SECRET, TOKEN)) == "Credentials(access_key_id='id', expires_at=None)"


def test_a_child_forked_while_a_thread_renews_keys_can_renew_its_own(tmp_path: Path, clock: HandClock) -> None:
    provider = FileProvider(write(tmp_path / "keys.json", pair("one")), now=clock)
    assert key_id(provider) == "one"
    write(tmp_path / "keys.json", pair("two"))
    provider._lock.acquire()  # as a thread that is renewing does
    child = os.fork()
    if child == 0:  # its way out is _exit, whatever happens: pytest must not go on twice
        try:
            os._exit(0 if key_id(provider) == "two" else 2)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert key_id(provider) == "one", "the parent's thread is still at it"
    provider._lock.release()
    assert key_id(provider) == "two"


def test_all_that_can_be_wrong_with_keys_is_one_kind_of_error() -> None:
    for kind in (NoCredentials, CredentialsIncomplete, CredentialsFileBad, RoleUnavailable, CredentialsExpired):
        assert issubclass(kind, CredentialsUnusable)
