"""A raw socket and prebuilt requests: the client's own cost is not the service's."""

import socket
from urllib.parse import urlsplit


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The bytes of a request that keeps its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def multipart(pictures: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(content type, body) of a form with pictures."""
    boundary = "benchmark-7c0ffee1"
    parts = []
    for name, data in pictures:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="imageData"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join(parts) + f"--{boundary}--\r\n".encode()


class Connection:
    """One connection that is kept."""

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def call(self, data: bytes) -> tuple[int, bytes]:
        """Send a prebuilt request; (status, body)."""
        self._socket.sendall(data)
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, self._file.read(length)

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self._socket.close()
