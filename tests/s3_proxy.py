"""A proxy before an S3 server, which counts requests, and can refuse or delay some of them."""

import contextlib
import http.client
import json
import random
import socketserver
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

# Status, headers and body.
Answer = tuple[int, dict[str, str], bytes]

_CONDITIONS = ("if-none-match", "x-goog-if-generation-match")
_BOUNDARY = b"between-the-parts-of-an-upload"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class Proxy:
    """Forwards requests to a server.

    Attributes:
        counts: Requests by method.
        failing: The share of requests that are answered with the status 503, or whose connection is cut.
        slow: The share of requests that are held for `delay` seconds.
        ignores_conditions: Whether `If-None-Match` is taken away.
        one_write_at_a_time: Whether a PUT waits until the one before is answered.
        fails: Whether a request of this method and path is answered with `failure`, a status and a code.
    """

    def __init__(self, target: str) -> None:
        self._target = urllib.parse.urlsplit(target)
        self._random, self._lock, self._writing = random.Random(0), threading.Lock(), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.reset()

    def reset(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.failing = self.slow = 0.0
        self.delay = 1.0
        self.ignores_conditions = self.one_write_at_a_time = False
        self.fails: Callable[[str, str], bool] | None = None
        self.failure = (503, "SlowDown")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def requests(self) -> int:
        return self.counts.total()

    def forward(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            self.counts[handler.command] += 1
            fate, lateness = self._random.random(), self._random.random()
        if lateness < self.slow:
            time.sleep(self.delay)
        if fate < self.failing / 2:
            # A connection that breaks.
            handler.close_connection = True
            return
        if fate < self.failing or (self.fails is not None and self.fails(handler.command, handler.path)):
            status, code = self.failure
            _answer(handler, status, {}, f"<Error><Code>{code}</Code></Error>".encode())
            return
        alone = (
            self._writing if self.one_write_at_a_time and handler.command == "PUT" else contextlib.nullcontext()
        )
        with alone:
            self._forward(handler, body)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = dict(handler.headers.items())
        if self.ignores_conditions:
            for name in _CONDITIONS:
                headers.pop(name, None)
        try:
            status, answered, data = self.ask(handler.command, handler.path, headers, body)
        except OSError:
            _answer(handler, 502, {}, b"")
            return
        with self._lock:
            self.bytes += len(data) + len(body)
        _answer(handler, status, answered, data)

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """Send a request to the server."""
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()


class GoogleProxy(Proxy):
    """Turns requests of Google Cloud Storage's XML interface into those that fake-gcs-server knows.

    It lists, reads and removes objects by them, but writes only by the JSON interface, and ignores `If-Match`.
    """

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        # Its name of the host that has this interface.
        headers["host"] = "storage.googleapis.com"
        bucket, _, key = path.strip("/").partition("/")
        if method == "PUT":
            query = {"uploadType": "multipart"}
            if (generation := headers.get("x-goog-if-generation-match")) is not None:
                query["ifGenerationMatch"] = generation
            name = json.dumps({"name": urllib.parse.unquote(key)}).encode()
            body = b"".join(
                b"--%b\r\nContent-Type: a/b\r\n\r\n%b\r\n" % (_BOUNDARY, each) for each in (name, body)
            )
            body += b"--%b--" % _BOUNDARY
            headers["content-type"] = f"multipart/related; boundary={_BOUNDARY.decode()}"
            headers["content-length"] = f"{len(body)}"
            upload = f"/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(query)}"
            status, _, data = super().ask("POST", upload, headers, body)
            return status, {"ETag": json.loads(data).get("etag", "")}, b""
        if (version := headers.pop("if-match", None)) is not None:
            _, found, _ = super().ask("HEAD", path, {**headers})
            if found.get("Etag", "").strip('"') != version.strip('"'):
                return 412, {}, b""
        return super().ask(method, path, headers, body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error."""


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
    handler.send_response_only(status)
    length = headers.get("Content-Length", str(len(data))) if handler.command == "HEAD" else str(len(data))
    for name, value in headers.items():
        if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
            handler.send_header(name, value)
    handler.send_header("Content-Length", length)
    handler.end_headers()
    handler.wfile.write(data)


def _handler(proxy: Proxy) -> type[socketserver.BaseRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # The client would wait 40 ms for the body, which is sent behind the headers.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            proxy.forward(self)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (their names in the library)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    return Handler
