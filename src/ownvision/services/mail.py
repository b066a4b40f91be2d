"""One mail to one person, by the mail server of the settings."""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, parseaddr

from ownvision.settings import Settings


class Rejected(Exception):
    """The mail server will never take a mail for this person."""


def send(settings: Settings, recipient: str, id: str, subject: str, text: str) -> None:
    """Send a plain-text mail; `id` tells a second copy from a second mail.

    Raises:
        Rejected: The recipient is refused for good.
        smtplib.SMTPException, OSError: It is not out; try again. Their texts may hold the address.
    """
    mail = EmailMessage()
    mail["From"] = settings.smtp_from
    mail["To"] = recipient
    mail["Subject"] = " ".join(subject.split())
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{id}@{parseaddr(settings.smtp_from)[1].rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text)
    try:
        with _connection(settings) as server:
            server.send_message(mail, to_addrs=[recipient])
    except smtplib.SMTPRecipientsRefused as error:
        if all(code >= 500 for code, _ in error.recipients.values()):
            raise Rejected from None
        raise


def _connection(settings: Settings) -> smtplib.SMTP:
    host, seconds = settings.smtp_host or "", settings.url_timeout
    if settings.smtp_tls == "tls":
        tls = ssl.create_default_context()
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, settings.smtp_port, timeout=seconds, context=tls)
    else:
        server = smtplib.SMTP(host, settings.smtp_port, timeout=seconds)
    try:
        if settings.smtp_tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if settings.smtp_user:
            server.login(settings.smtp_user, settings.smtp_password or "")
    except BaseException:
        server.close()
        raise
    return server
