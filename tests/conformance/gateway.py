"""A gateway before the service, for clients that are not told where it is: it records what kinds of request pass.

A client whose code names Microsoft's host reaches the service unmodified: `HTTPS_PROXY` names this gateway and
`REQUESTS_CA_BUNDLE` its certificate, as in a company whose proxy looks into TLS. Nothing of the client is patched.
"""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "date", "server"}


@dataclass
class Gateway:
    """A gateway that runs.

    Attributes:
        address: Where it listens.
        seen: Every request's method, path (ids as `{id}`) and status, in order.
    """

    address: str
    seen: list[tuple[str, str, int]] = field(default_factory=list)

    def kinds(self) -> set[tuple[str, str]]:
        """(method, path) of the requests below `/customvision` that were answered well."""
        return {
            (method, path) for method, path, status in self.seen if path.startswith("/customvision") and status < 300
        }


def certificate(folder: Path, host: str) -> Path:
    """Write a certificate of one's own for a host, and its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def running(service: str, pem: Path | None = None) -> Iterator[Gateway]:
    """A gateway to a service; with a certificate it also takes `CONNECT`, for any host."""
    tls = None
    if pem is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            if tls is None:
                self.send_error(405)
                return
            self.send_response(200, "Connection established")
            self.end_headers()
            self.connection = self.request = tls.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)
            self.close_connection = False

        def forward(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            answer = client.request(self.command, service + self.path, headers=headers, content=self.rfile.read(length))
            path = GUID.sub("{id}", self.path.partition("?")[0])
            gateway.seen.append((self.command, path, answer.status_code))
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def do_GET(self) -> None:
            self.forward()

        def do_POST(self) -> None:
            self.forward()

        def do_PATCH(self) -> None:
            self.forward()

        def do_DELETE(self) -> None:
            self.forward()

        def finish(self) -> None:
            super().finish()
            # The server closes the connection that it opened, not what TLS made of it.
            self.connection.close()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gateway = Gateway(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    with httpx.Client(timeout=120.0) as client:
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
