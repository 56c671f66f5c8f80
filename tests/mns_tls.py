"""TLS before a server that speaks none, with a CA of its own."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@contextmanager
def tls_before(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """Speak TLS before a server of this machine, with a certificate for 127.0.0.1; yield the port and the CA's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA of one's own")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256()))
    ca_file, both = folder / "ca.pem", folder / "both.pem"
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both.write_bytes(ca_file.read_bytes() + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        over, threads = threading.Event(), list[threading.Thread]()

        def accept() -> None:
            while not over.is_set():
                try:
                    threads.append(threading.Thread(target=_carry, args=(listener.accept()[0], context, port, over)))
                    threads[-1].start()
                except TimeoutError:
                    continue

        threads.append(threading.Thread(target=accept))
        threads[0].start()
        yield listener.getsockname()[1], ca_file
        over.set()
        threads[0].join()
        for thread in threads[1:]:
            thread.join()


def _carry(plain: socket.socket, context: ssl.SSLContext, port: int, over: threading.Event) -> None:
    """Carry one connection's bytes between TLS and the server, by two threads."""
    try:
        outer = context.wrap_socket(plain, server_side=True)
    except (ssl.SSLError, OSError):
        plain.close()
        return
    inner = socket.create_connection(("127.0.0.1", port))
    outer.settimeout(0.05)
    inner.settimeout(0.05)
    done = threading.Event()

    def pump(source: socket.socket, target: socket.socket) -> None:
        while not done.is_set() and not over.is_set():
            try:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(data)
            except TimeoutError:
                continue
            except OSError:
                break
        done.set()

    back = threading.Thread(target=pump, args=(inner, outer))
    back.start()
    pump(outer, inner)
    back.join()
    outer.close()
    inner.close()
