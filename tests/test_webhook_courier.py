"""A delivery goes to the very address that was checked, under the name of its receiver, and nowhere else."""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.retry_after import retry_after_s
from app.settings import Settings
from tests.receiver import Receiver
from workers.delivery_courier import Courier, Resolve
from workers.delivery_schedule import Outcome

PUBLIC = replace(Settings(), webhook_timeout_s=5)
PRIVATE = replace(PUBLIC, webhook_private=True)
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def carried(url: str, settings: Settings = PRIVATE, *, resolve: Resolve | None = None,
            trust: ssl.SSLContext | None = None) -> Outcome:
    """Carry one delivery, with a resolver of the test's."""
    async def carry() -> Outcome:
        courier = Courier(settings, trust=trust, resolve=resolve or (lambda *_: ["127.0.0.1"]))
        try:
            return await courier.carry(url, {"webhook-id": "m"}, b"{}")
        finally:
            await courier.close()

    return asyncio.run(carry())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


# -- where it goes


def test_it_goes_to_the_address_that_the_name_has_under_the_name(receiver: Receiver) -> None:
    assert carried(receiver.url(host="hooks.test")) == Outcome(status=204)
    (got,) = receiver.received
    assert got.headers["host"] == receiver.url(host="hooks.test").split("/")[2]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%lo", "::ffff:127.0.0.1"])
def test_a_name_that_leads_inside_is_not_called(receiver: Receiver, address: str) -> None:
    for addresses in ([address], ["8.8.8.8", address]):
        outcome = carried(receiver.url(host="hooks.test"), PUBLIC, resolve=lambda *_, found=addresses: found)
        assert outcome.error == "hooks.test leads to an address that is none of the public network"
    assert receiver.received == []


def test_an_address_in_the_url_is_checked_again_at_delivery(receiver: Receiver) -> None:
    assert "none of the public network" in carried(receiver.url(), PUBLIC).error
    assert receiver.received == []


def test_a_name_that_changes_after_it_was_checked_changes_nothing(receiver: Receiver) -> None:
    """DNS rebinding: another address after the first answer. The name is asked for once, and what is connected to is that
    answer: the system does not know the name, so asking it anew, as an HTTP client does, would fail."""
    answers = ["127.0.0.1", "127.0.0.99"]
    outcome = carried(receiver.url(host="hooks.test"), resolve=lambda *_: [answers.pop(0)])

    assert (outcome, answers, len(receiver.received)) == (Outcome(status=204), ["127.0.0.99"], 1)


def test_another_address_of_the_name_is_tried_where_one_takes_no_connection(receiver: Receiver) -> None:
    assert carried(receiver.url(host="hooks.test"), resolve=lambda *_: ["127.0.0.99", "::1", "127.0.0.1"]).status == 204
    assert "Error" in carried(receiver.url(host="hooks.test"), resolve=lambda *_: ["127.0.0.99"]).error


def test_a_name_without_an_address_is_an_error_of_the_attempt() -> None:
    def unknown(*_: object) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert "Name or service not known" in carried("http://hooks.test/", resolve=unknown).error
    assert carried("http://hooks.test/", resolve=lambda *_: []).error == "hooks.test has no address"


def test_no_proxy_of_the_environment_is_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert carried(receiver.url(host="hooks.test")).status == 204


# -- TLS


@pytest.fixture
def certified(tmp_path: Path) -> Callable[[str], tuple[ssl.SSLContext, ssl.SSLContext]]:
    """Makes a certificate for a name: what a server needs to show it, and what trusts it."""
    def make(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([
                x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256()))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        file = tmp_path / f"{name}.pem"
        file.write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                 serialization.NoEncryption()))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(file)
        return server, ssl.create_default_context(cadata=pem.decode())

    return make


def test_the_certificate_is_checked_against_the_name_in_the_url(
        certified: Callable[[str], tuple[ssl.SSLContext, ssl.SSLContext]]) -> None:
    server, trust = certified("hooks.test")
    with Receiver(context=server) as receiver:
        assert carried(receiver.url(host="hooks.test", scheme="https"), trust=trust).status == 204
        assert "certificate" in carried(receiver.url(host="other.test", scheme="https"), trust=trust).error
        assert "certificate" in carried(receiver.url(scheme="https"), trust=trust).error
        assert "certificate" in carried(receiver.url(host="hooks.test", scheme="https")).error
        assert len(receiver.received) == 1


# -- what is answered


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says this whatever it is asked, and then nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                with contextlib.suppress(OSError):
                    connection.sendall(answer)
                    while connection.recv(65536):  # until it is closed
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join(10)
        assert not thread.is_alive()


def test_a_body_without_end_is_not_waited_for() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000) as url:
        assert carried(url) == Outcome(status=200)


def test_a_head_that_does_not_end_is_waited_for_no_longer_than_the_setting() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nX-Slow: ") as url:
        assert carried(url, replace(PRIVATE, webhook_timeout_s=0.2)) == Outcome(error="no answer within 0.2 s")


def test_what_is_no_http_is_an_error_of_the_attempt() -> None:
    with answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as url:
        assert "RemoteProtocolError" in carried(url).error


@pytest.mark.parametrize(("given", "seconds"), [
    ("120", 120.0), ("0", 0.0), ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0), ("Thu, 01 Jan 2025 00:00:00 GMT", 0.0),
    ("", None), ("soon", None), ("-5", None), ("1.5", None),
    (f"Thu, 01 Jan {10**20} 00:00:00 GMT", None), (f"Thu, 01 Jan 2026 00:00:00 +{10**20}", None)])
def test_when_to_come_again_is_read_in_both_forms(given: str, seconds: float | None) -> None:
    assert retry_after_s(given, NOW) == seconds
