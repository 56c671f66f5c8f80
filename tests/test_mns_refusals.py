"""What an operator reads when the transport cannot work: each message says what is wrong, where, and what to do next.

All through kombu, as Celery uses it, against the local servers.
"""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

from ops.embedded_redis import free_port
from ops.mns_server import Fault, LocalMns
from ops.mns_server.objects import ObjectServer
from ops.waiting import wait_until
from routing.mns import install
from routing.mns.credentials import CredentialsFileBad, CredentialsIncomplete, NoCredentials
from routing.mns.errors import (
    BadRequest,
    ClockSkew,
    MnsError,
    NotAllowed,
    QueueMissing,
    Refused,
    ServiceFailed,
    TooLarge,
    Transient,
    Unreachable,
    WrongKey,
)
from routing.mns.stores import StoreAddressBad, StoreRefused, StoreUnavailable
from tests.mns_celery_app import VARIABLE

ID, SECRET, TOKEN = "LTAI-of-the-tests", "kA9/a+secret@of:the-tests", "CAIS-a-token-of-the-tests"
REQUEST = r"request [0-9A-F]{24}"


@pytest.fixture
def mns() -> Iterator[LocalMns]:
    """A local MNS server and its object server."""
    with LocalMns.running(keys=[(ID, SECRET), ("STS.of-the-tests", SECRET, TOKEN)]) as running:
        yield running


@contextmanager
def connection(address: str, *, key_id: str = ID, secret: str = SECRET, scheme: str = "mns",
               **options: Any) -> Iterator[Connection]:
    """A connection to `address`, not yet made, with the keys in its URL; with an empty `key_id` without any."""
    install()
    user = f"{quote(key_id, safe='')}:{quote(secret, safe='')}@" if key_id else ""
    with Connection(f"{scheme}://{user}{address}", transport_options=options) as made:
        yield made


def refused(address: str, **given: Any) -> MnsError:
    """Connect, which fails; return why. What kombu makes of it must say the same, and nothing may tell a secret."""
    with connection(address, **given) as broker:
        with pytest.raises(OperationalError) as raised:
            broker.ensure_connection(max_retries=0)
        error = raised.value.__cause__
        assert isinstance(error, MnsError)
        assert str(error) == str(raised.value)
        assert_no_secret("".join(traceback.format_exception(raised.value)) + broker.as_uri() + repr(broker))
        return error


def publish(broker: Connection, body: str = "x") -> None:
    """Send a message to the queue `jobs`."""
    broker.ensure_connection(max_retries=0)
    broker.Producer().publish({"body": body}, routing_key="jobs", serializer="json")


def assert_no_secret(text: str) -> None:
    """Neither the secret nor the token stands in it, as it is or as in a URL."""
    for secret in (SECRET, quote(SECRET, safe=""), TOKEN):
        assert secret not in text


def at(port: int | None) -> str:
    """An address on this machine."""
    return f"127.0.0.1:{port}"


# The wrong key


def test_a_wrong_secret_says_what_to_look_at(mns: LocalMns) -> None:
    error = refused(at(mns.port), secret="not-the-secret")
    assert isinstance(error, WrongKey)
    assert isinstance(error, Refused)
    assert re.search(rf"does not match the signature you provided.*\(SignatureDoesNotMatch, {REQUEST}\); "
                     "check the access key's secret", str(error))
    assert "not-the-secret" not in str(error)


@pytest.mark.parametrize(("code", "status", "tries"), [
    ("SignatureDoesNotMatch", 403, 1), ("InvalidAccessKeyId", 403, 1), ("TimeExpired", 408, 1), ("InternalError", 500, 3)])
def test_only_what_may_pass_is_tried_again(code: str, status: int, tries: int, mns: LocalMns) -> None:
    mns.faults.add(Fault(kind="status", status=status, code=code))
    assert code in str(refused(at(mns.port)))
    assert mns.requests() == {"ListQueue": tries}


def test_an_unknown_key_says_what_to_look_at(mns: LocalMns) -> None:
    error = refused(at(mns.port), key_id="unknown")
    assert isinstance(error, WrongKey)
    assert re.search(rf"at 127.0.0.1:{mns.port}: .*\(InvalidAccessKeyId, {REQUEST}\); check the access key's id, that it "
                     "is enabled, and that it belongs to this account; the access key's id is 'unknown'$", str(error))


def test_an_sts_token_that_is_no_good_any_more_is_a_wrong_key(mns: LocalMns, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = {"access_key_id": "STS.of-the-tests", "access_key_secret": SECRET, "security_token": TOKEN}
    file.write_text(json.dumps(keys | {"security_token": "CAIS-an-old-one"}))
    error = refused(at(mns.port), key_id="", credentials_file=str(file))
    assert isinstance(error, WrongKey)
    assert "security token you provided does not belong to this AccessKey Id, or is expired" in str(error)
    file.write_text(json.dumps(keys))
    with connection(at(mns.port), key_id="", credentials_file=str(file)) as broker:
        publish(broker)


def test_what_a_key_may_not_do_says_to_whom_to_give_which_permission(mns: LocalMns) -> None:
    mns.faults.add(Fault(operation="SendMessage", kind="status", status=403, code="AccessDenied"))
    with connection(at(mns.port)) as broker, pytest.raises(NotAllowed) as raised:
        publish(broker)
    assert re.search(rf"send to queue jobs at 127.0.0.1:{mns.port}: .*\(AccessDenied, {REQUEST}\); give the RAM user the "
                     rf"permission, for this queue \(mns:SendMessage\); the access key's id is '{ID}'", str(raised.value))


def test_a_key_that_may_not_list_queues_is_no_wrong_key(mns: LocalMns) -> None:
    mns.faults.add(Fault(operation="ListQueue", kind="status", status=403, code="AccessDenied"))
    with connection(at(mns.port)) as broker:
        publish(broker)


# No keys


def test_no_keys_anywhere_lists_where_they_were_looked_for(mns: LocalMns, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    error = refused(at(mns.port), key_id="")
    assert isinstance(error, NoCredentials)
    for place in ("the URL has no userinfo", "no credentials file is set", "are not in the environment", "Set one of them"):
        assert place in str(error)


def test_a_file_of_keys_that_is_missing_or_no_good_is_named(mns: LocalMns, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    error = refused(at(mns.port), key_id="", credentials_file=str(file))
    assert isinstance(error, CredentialsFileBad)
    assert str(error).startswith(f"credentials file {file} cannot be read: No such file or directory")
    file.write_text(json.dumps({"access_key_id": ID, "secret": SECRET}))
    error = refused(at(mns.port), key_id="", credentials_file=str(file))
    assert str(error) == f"credentials file {file}: access_key_secret is missing"


def test_half_a_key_in_the_url_is_not_filled_up_from_elsewhere(mns: LocalMns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET)
    error = refused(at(mns.port), secret="")
    assert isinstance(error, CredentialsIncomplete)
    assert str(error) == "the URL's userinfo: access_key_secret is missing"


# The clock


def test_a_clock_that_is_off_is_said_to_be(mns: LocalMns) -> None:
    mns.admission.skew_s = 16 * 60
    error = refused(at(mns.port))
    assert isinstance(error, ClockSkew)
    assert re.search(rf"\(TimeExpired, {REQUEST}\); this machine's clock is more than 15 minutes off: set it", str(error))


# Queues


MISSING = (r"queue tandem-jobs does not exist at 127\.0\.0\.1:\d+ and may not be created from here \({}\); create it in "
           r"the console, with a visibility timeout of 90 s, or allow mns:CreateQueue")


@pytest.mark.parametrize("use", [publish, lambda broker: broker.SimpleQueue("jobs")], ids=["publishing", "consuming"])
@pytest.mark.parametrize("create", [True, False], ids=["the service forbids it", "create_missing is off"])
def test_a_queue_that_is_missing_and_may_not_be_made_is_named_with_what_to_do(
        create: bool, use: Callable[[Connection], object], mns: LocalMns) -> None:
    mns.faults.add(Fault(operation="CreateQueue", kind="status", status=403, code="AccessDenied"))
    with connection(at(mns.port), create_missing=create, queue_name_prefix="tandem-", visibility_timeout=90) as broker, \
            pytest.raises(QueueMissing) as raised:
        use(broker)
    because = rf"create queue tandem-jobs at .*\(AccessDenied, {REQUEST}\).*" if create else "create_missing is off"
    assert re.search(MISSING.format(because), str(raised.value))


def test_a_queue_that_is_there_serves_a_user_who_may_not_make_queues(mns: LocalMns) -> None:
    with connection(at(mns.port)) as broker:
        publish(broker)
    mns.faults.add(Fault(operation="CreateQueue", kind="status", status=403, code="AccessDenied"))
    for create in (True, False):
        with connection(at(mns.port), create_missing=create) as broker:
            publish(broker)
    assert mns.audit("jobs")["sent"] == 3


# The network


def test_an_endpoint_that_nobody_listens_on_is_named() -> None:
    port = free_port()
    error = refused(at(port))
    assert isinstance(error, Unreachable)
    assert isinstance(error, Transient), "it may be tried again"
    assert f"127.0.0.1:{port}: ConnectionRefusedError" in str(error)
    assert str(error).endswith("check the network and the endpoint")


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that reads a little, answers this, and hangs up. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def page(status: str, text: str) -> bytes:
    """An answer of no MNS."""
    return f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def test_an_endpoint_that_hangs_up_says_so() -> None:
    with answering(b"") as port:
        error = refused(at(port))
    assert isinstance(error, Unreachable)
    assert f"127.0.0.1:{port}: the connection was closed before an answer came" in str(error)


def test_the_page_of_a_proxy_is_told_with_its_status() -> None:
    with answering(page("502 Bad Gateway", "<html><h1>Bad Gateway</h1></html>")) as port:
        error = refused(at(port))
    assert isinstance(error, ServiceFailed)
    assert re.search(r"HTTP 502 and no answer of MNS \( ?Bad Gateway ?\)", str(error))


def test_an_address_that_is_no_endpoint_of_mns_is_asked_about() -> None:
    with answering(page("404 Not Found", "<html>no such page</html>")) as port:
        error = refused(at(port))
    assert isinstance(error, BadRequest)
    assert "HTTP 404 and no answer of MNS" in str(error)
    assert "is this the address of an MNS endpoint?" in str(error)


def test_https_to_what_speaks_http_is_told_as_what_it_is() -> None:
    with answering(page("400 Bad Request", "plain HTTP here")) as port:
        error = refused(at(port), scheme="mnss")
    assert isinstance(error, Unreachable)
    assert "SSLError" in str(error)
    assert f"127.0.0.1:{port}" in str(error)


# Bodies


LONG = "请解释量子纠缠。" * 10_000


def test_a_long_body_without_a_store_gives_the_figures_and_what_to_set(mns: LocalMns) -> None:
    with connection(at(mns.port), compress_above=2**31) as broker, pytest.raises(TooLarge) as raised:
        publish(broker, LONG)
    assert re.search(r"a body of \d{6} bytes does not fit: a message takes 49152\. Set a store", str(raised.value))


def test_a_store_that_refuses_or_is_away_says_what_it_could_not_do(mns: LocalMns) -> None:
    with ObjectServer("127.0.0.1", 0, None, [(ID, "another", "")]) as objects:
        for port, kind, says in (
                (free_port(), StoreUnavailable, r"cannot put jobs/[0-9a-f]{32}: no answer \(ConnectionRefusedError\)"),
                (objects.port, StoreRefused, "SignatureDoesNotMatch.*the access key secret does not fit the id")):
            store = f"oss://bodies/x?region=cn-hangzhou&endpoint=http://{at(port)}"
            with connection(at(mns.port), store=store, compress_above=2**31) as broker:
                publish(broker)
                with pytest.raises(kind, match=says) as raised:
                    publish(broker, LONG)
                assert_no_secret("".join(traceback.format_exception(raised.value)))
    assert mns.audit("jobs")["sent"] == 2, "what could not be stored was not sent either"


def test_a_stores_address_that_is_none_is_said_when_connecting(mns: LocalMns) -> None:
    error = refused(at(mns.port), store="oss://bodies/x")
    assert isinstance(error, StoreAddressBad)
    assert "names no region; add ?region=cn-hangzhou" in str(error)


# A worker


def test_a_workers_log_says_what_is_wrong_and_shows_no_secret(mns: LocalMns, tmp_path: Path) -> None:
    url = f"mns://{ID}:{quote('not-' + SECRET, safe='')}@{at(mns.port)}//"
    place = {"url": url, "options": {"credentials_file": None}, "queue": "jobs", "ledger": str(tmp_path / "ledger")}
    log = tmp_path / "worker.log"
    with log.open("wb") as out:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.mns_celery_app", "worker", "--pool", "solo", "-l", "DEBUG"],
            cwd=Path(__file__).parent.parent, env={**os.environ, VARIABLE: json.dumps(place)}, stdout=out, stderr=out)
    try:
        wait_until(lambda: "check the access key's secret" in log.read_text(), timeout_s=60, what="the worker to complain")
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    finally:
        worker.kill()
        worker.wait()
    said = log.read_text()
    assert re.search(rf"Cannot connect to mns://{ID}:\*\*@127\.0\.0\.1:{mns.port}//: .*SignatureDoesNotMatch", said)
    assert "Traceback" not in said
    assert_no_secret(said)


def test_what_is_logged_while_all_is_well_shows_no_secret(mns: LocalMns, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with connection(at(mns.port), store=f"oss://bodies/x?region=cn-hangzhou&endpoint=http://{at(mns.objects_port)}",
                    compress_above=2**31) as broker:
        publish(broker, LONG)
        with broker.SimpleQueue("jobs") as queue:
            message = queue.get(timeout=20)
            assert message.payload == {"body": LONG}
            message.ack()
    assert_no_secret(caplog.text)
