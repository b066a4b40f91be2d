"""Mail goes to servers that are who they say they are, and not in the clear where encryption was asked for."""

import smtplib
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ownvision.client.local import free_port
from ownvision.services import mail
from ownvision.settings import Settings
from ownvision.store.tables.base import now
from tests.receivers import letterbox

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return path


def _server(certificate: Path, tls: str) -> dict[str, Any]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    login = {
        "auth_required": tls == "starttls",
        "auth_require_tls": tls == "starttls",
        "authenticator": lambda server, session, envelope, mechanism, data: AuthResult(
            success=(data.login, data.password) == (b"user", b"hush"), handled=False
        ),
    }
    return {**login, **({"ssl_context": context} if tls == "tls" else {"tls_context": context})}


def _settings(port: int, tls: str, **more: Any) -> Settings:
    login = {"smtp_user": "user", "smtp_password": "hush"}
    return Settings(smtp_host="127.0.0.1", smtp_port=port, smtp_tls=tls, **{**login, **more})


@pytest.mark.parametrize("tls", ["tls", "starttls"])
def test_mail_is_encrypted_and_the_login_used(certificate: Path, monkeypatch: pytest.MonkeyPatch, tls: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with letterbox(free_port(), **_server(certificate, tls)) as box:
        mail.send(_settings(box.port, tls), "a@example.org", "1", "Über\r\nBcc: b@example.org", "Hällo")
        ((recipients, message),) = box.came
        with pytest.raises(smtplib.SMTPAuthenticationError):
            mail.send(_settings(box.port, tls, smtp_password="wrong"), "a@example.org", "2", "x", "y")
    assert recipients == ["a@example.org"]
    assert (message["Subject"], message["Bcc"]) == ("Über Bcc: b@example.org", None)
    assert message["Message-ID"] == "<1@localhost>"
    assert message.get_content().strip() == "Hällo"


@pytest.mark.parametrize("tls", ["tls", "starttls"])
def test_a_server_that_nobody_vouches_for_gets_no_mail(certificate: Path, tls: str) -> None:
    with letterbox(free_port(), **_server(certificate, tls)) as box:
        with pytest.raises(ssl.SSLCertVerificationError):
            mail.send(_settings(box.port, tls), "a@example.org", "1", "x", "y")
        assert box.came == []


def test_a_server_without_encryption_gets_no_mail_unless_it_is_told(certificate: Path) -> None:
    with letterbox(free_port()) as box:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            mail.send(_settings(box.port, "starttls"), "a@example.org", "1", "x", "y")
        assert box.came == []
