"""A proxy before an S3 server, which counts requests, and can refuse or delay some of them."""

import contextlib
import http.client
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
            headers.pop("if-none-match", None)
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            data = response.read()
        except OSError:
            _answer(handler, 502, {}, b"")
            return
        finally:
            connection.close()
        with self._lock:
            self.bytes += len(data) + len(body)
        _answer(handler, response.status, dict(response.getheaders()), data)


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

        def do_GET(self) -> None:
            proxy.forward(self)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (their names in the library)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    return Handler
