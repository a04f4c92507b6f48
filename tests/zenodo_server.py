"""A Zenodo on this machine: the records API and the files behind TLS with a test authority, reached through a proxy.

The program zenodo-get runs as it is: it believes that it talks to zenodo.org through the proxy that ``HTTPS_PROXY``
names, and it verifies the certificate against the authority that ``SSL_CERT_FILE`` names.
"""

import hashlib
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

RECORD = "7784039"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass
class Zenodo:
    """What the server gives, to be changed by a test.

    Attributes:
        files: Contents by key, as the record lists them; their md5 and size are listed truly.
        listed: Keys listed with other properties, such as ``{"a.pt": {"checksum": "md5:00"}}``.
        replies: Contents by key that are sent in place of the listed file; None sends 404.
        cut: The fraction of a file after which the connection is closed; None sends all.
        refusals: Statuses with headers that answer the next requests, one each.
        html: Answer every request with a page, status 200.
        at: Called with the fraction sent, before each tenth of a file and after the last; with -1 before the record.
        requests: Time and path of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, dict[str, object]] = field(default_factory=dict)
    replies: dict[str, bytes | None] = field(default_factory=dict)
    cut: float | None = None
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    html: bool = False
    at: Callable[[float], object] = lambda fraction: None
    requests: list[tuple[float, str]] = field(default_factory=list)
    address: str = ""
    authority: Path = Path()

    def environment(self, cache: Path) -> dict[str, str]:
        """The variables of a process that fetches from here into ``cache``."""
        kept = {name: value for name, value in os.environ.items() if name.upper() not in PROXIES}
        return kept | {
            "HTTPS_PROXY": self.address,
            "SSL_CERT_FILE": str(self.authority),
            "SSL_CERT_DIR": str(self.authority.parent),
            "NOISEBOOK_CACHE": str(cache),
        }

    def record(self) -> bytes:
        """The answer of the records API."""
        files = []
        for key, content in self.files.items():
            links = {"self": f"https://zenodo.org/api/records/{RECORD}/files/{key}/content"}
            checksum = f"md5:{hashlib.md5(content).hexdigest()}"
            files.append({"key": key, "size": len(content), "checksum": checksum, "links": links})
            files[-1] |= self.listed.get(key, {})
        return json.dumps({"id": RECORD, "metadata": {"title": "Weights"}, "files": files}).encode()


@contextmanager
def zenodo(folder: Path) -> Iterator[Zenodo]:
    """Serve until the end of the block; ``folder`` gets the authority's certificate."""
    authority = trustme.CA()
    served = Zenodo(authority=folder / "authority.pem")
    authority.cert_pem.write_to_path(str(served.authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("zenodo.org").configure_cert(context)

    class Handler(_Handler):
        tls, zenodo = context, served

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # a killed client
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    tls: ssl.SSLContext
    zenodo: Zenodo
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        """Be the proxy to every host, and every host behind it."""
        self.send_response(200)
        self.end_headers()
        self.rfile.close()
        self.wfile.close()
        self.connection = self.request = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_GET(self) -> None:
        """The record, or a file of it."""
        self.zenodo.requests.append((time.monotonic(), self.path))
        path = self.path.partition("?")[0]
        if self.zenodo.refusals:
            status, headers = self.zenodo.refusals.pop(0)
            self._send(b"later", status, headers)
        elif self.zenodo.html:
            self._send(b"<!DOCTYPE html><title>Maintenance</title>", headers={"Content-Type": "text/html"})
        elif path == f"/api/records/{RECORD}":
            self.zenodo.at(-1.0)
            self._send(self.zenodo.record())
        else:
            key = path.removeprefix(f"/api/records/{RECORD}/files/").removesuffix("/content")
            content = self.zenodo.replies.get(key, self.zenodo.files.get(key))
            self._send(b"no such file", 404) if content is None else self._send_file(content)

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _send_file(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        end = len(content) if self.zenodo.cut is None else round(self.zenodo.cut * len(content))
        for tenth in range(10):
            self.zenodo.at(tenth / 10)
            first, last = (len(content) * n // 10 for n in (tenth, tenth + 1))
            self.wfile.write(content[first : min(last, end)])
            if last > end:
                break
        self.zenodo.at(1.0)
        self.close_connection = end < len(content)

    def finish(self) -> None:
        """Close the connection, also where the client has gone."""
        with suppress(OSError):
            super().finish()
        self.rfile.close()
        self.connection.close()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
