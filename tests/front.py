"""A server in front of a service, which passes calls on, or does to them what networks and busy services do."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

# Headers that a proxy makes itself.
_OWN = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Asked:
    """A call that came: `number` counts those of its path, from 1."""

    method: str
    path: str
    number: int
    headers: dict[str, str]

    @property
    def picture(self) -> bool:
        """Whether it asks for the bytes of a picture."""
        return self.path.startswith(("/i-", "/predictionimages/"))


@dataclass
class Answer:
    """What is answered; `promise` more bytes than come, `pause` seconds before the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    promise: int = 0


Rule = Callable[[Asked, Callable[[], Answer]], Answer]


@dataclass
class Front:
    """A server whose `rule` answers each call, with the service's own answer or another."""

    endpoint: str = ""
    rule: Rule = lambda asked, forward: forward()
    came: list[Asked] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, method: str, path: str, headers: dict[str, str]) -> Asked:
        """A call that comes."""
        with self._lock:
            bare = path.partition("?")[0]
            self._counts[bare] = self._counts.get(bare, 0) + 1
            asked = Asked(method, path, self._counts[bare], headers)
            self.came.append(asked)
            return asked


@contextmanager
def front(behind: str | None, rule: Rule) -> Iterator[Front]:
    """A server in front of a service, or of none."""
    server_of = Front(rule=rule)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = server_of.note(self.command, self.path, headers)

            def forward() -> Answer:
                passed = httpx.request(
                    self.command, f"{behind}{self.path}", headers=headers, content=body, timeout=30, trust_env=False
                )
                kept = {name: value for name, value in passed.headers.items() if name.lower() not in _OWN}
                return Answer(passed.status_code, kept, passed.content)

            found = server_of.rule(asked, forward)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body) + found.promise))
            self.end_headers()
            self.wfile.write(found.body)
            self.close_connection = bool(found.promise)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that ends in the middle is what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    server_of.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield server_of
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
