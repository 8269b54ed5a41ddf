"""A small S3 server for tests, made apart from others: what our folder asks of one, and faults on demand.

It knows HEAD, GET with ranges, PUT, DELETE, uploads in parts, and lists by prefix, page by page. Signatures are not
checked. Faults are data: each says which requests it befalls, how, and how often.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["Fault", "SmallS3", "small_s3"]

_PAGE = 3
"""Names of one page of a list, so few that lists have several pages."""


@dataclass(slots=True)
class Fault:
    """What goes wrong with some of the requests to come."""

    method: Literal["GET", "PUT", "HEAD", "POST"]
    kind: Literal["refused", "busy", "cut", "stalled"]
    """403; 503; the connection ends halfway; nothing comes for a while."""
    times: int = 1
    key: str = ""
    """Only requests of which this is a part of the path."""
    stall_s: float = 0.0


@dataclass(slots=True)
class SmallS3:
    """What the server holds, and what it is to do wrong."""

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    """By bucket and key: `bucket/some/key`."""
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path with query."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def next_fault(self, method: str, path: str) -> Fault | None:
        """The fault that befalls a request; None: it goes well."""
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.method == method and fault.key in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def small_s3() -> Iterator[SmallS3]:
    """Runs a server with the empty bucket `bucket` on a free port."""
    held = SmallS3()
    handler = type("_Bound", (_Handler,), {"held": held})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        held.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    held: SmallS3
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def do_PUT(self) -> None:
        body = self._body()
        if self._faulty():
            return
        name, query = self._asked()
        if name.partition("/")[0] not in self.held.buckets:
            self._error(HTTPStatus.NOT_FOUND, "NoSuchBucket")
        elif "uploadId" in query:
            self.held.uploads[query["uploadId"]][int(query["partNumber"])] = body
            self._answer(HTTPStatus.OK, b"", ETag=_etag(body))
        else:
            self.held.objects[name] = body
            self._answer(HTTPStatus.OK, b"", ETag=_etag(body))

    def do_POST(self) -> None:
        body = self._body()
        if self._faulty():
            return
        name, query = self._asked()
        bucket, _, key = name.partition("/")
        if bucket not in self.held.buckets:
            self._error(HTTPStatus.NOT_FOUND, "NoSuchBucket")
        elif "uploads" in query:
            number = f"upload-{len(self.held.uploads)}"
            self.held.uploads[number] = {}
            self._xml("InitiateMultipartUploadResult", {"Bucket": bucket, "Key": key, "UploadId": number})
        elif "uploadId" in query:
            parts = self.held.uploads.pop(query["uploadId"])
            wanted = [int(each) for each in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
            self.held.objects[name] = b"".join(parts[each] for each in wanted)
            self._xml("CompleteMultipartUploadResult", {"Bucket": bucket, "Key": key, "ETag": '"whole"'})
        else:
            self._error(HTTPStatus.NOT_IMPLEMENTED, "NotImplemented")

    def do_DELETE(self) -> None:
        self._body()
        name, query = self._asked()
        if "uploadId" in query:
            self.held.uploads.pop(query["uploadId"], None)
        else:
            self.held.objects.pop(name, None)
        self._answer(HTTPStatus.NO_CONTENT, b"")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written."""

    def _get(self) -> None:
        name, query = self._asked()
        fault = self.held.next_fault(self.command, self.path)
        if fault is not None and fault.kind != "cut" and self._befalls(fault):
            return
        if name.partition("/")[0] not in self.held.buckets:
            self._error(HTTPStatus.NOT_FOUND, "NoSuchBucket")
        elif "/" not in name and "list-type" in query:
            self._list(name, query)
        elif "/" not in name:
            self._answer(HTTPStatus.OK, b"")
        elif name not in self.held.objects:
            self._error(HTTPStatus.NOT_FOUND, "NoSuchKey")
        else:
            self._object(self.held.objects[name], cut=fault is not None)

    def _object(self, content: bytes, *, cut: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2] or len(content) - 1)) if asked else (0, len(content) - 1)
        part = content[first : last + 1]
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", _etag(content))
        self.send_header("Last-Modified", "Thu, 01 Oct 2026 00:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part[: len(part) // 2] if cut else part)
        if cut:
            self.close_connection = True

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter, after = (
            query.get("prefix", ""),
            query.get("delimiter", ""),
            query.get("continuation-token", ""),
        )
        keys = sorted(name.partition("/")[2] for name in self.held.objects if name.startswith(f"{bucket}/"))
        names: dict[str, bool] = {}
        for key in keys:
            if key.startswith(prefix):
                inner, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
                names[prefix + inner + found if delimiter else key] = bool(found)
        left = [each for each in names if each > after]
        page = left[: min(_PAGE, int(query.get("max-keys", "1000")))]
        more = len(left) > len(page)
        body = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
        body += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        body += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        for each in page:
            if names[each]:
                body += f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>"
            else:
                size = len(self.held.objects[f"{bucket}/{each}"])
                body += f"<Contents><Key>{escape(each)}</Key><Size>{size}</Size>"
                body += "<LastModified>2026-10-01T00:00:00.000Z</LastModified></Contents>"
        self._answer(HTTPStatus.OK, f"<ListBucketResult>{body}</ListBucketResult>".encode())

    def _asked(self) -> tuple[str, dict[str, str]]:
        """Bucket and key, and the query."""
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        return unquote(url.path).strip("/"), {name: values[0] for name, values in query.items()}

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _faulty(self) -> bool:
        fault = self.held.next_fault(self.command, self.path)
        return fault is not None and self._befalls(fault)

    def _befalls(self, fault: Fault) -> bool:
        """Answers wrongly; false: the request goes on."""
        match fault.kind:
            case "refused":
                self._error(HTTPStatus.FORBIDDEN, "AccessDenied")
            case "busy":
                self._error(HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown")
            case "cut":
                self.close_connection = True
            case "stalled":
                time.sleep(fault.stall_s)
                return False
        return True

    def _error(self, status: HTTPStatus, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _xml(self, name: str, values: dict[str, str]) -> None:
        content = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in values.items())
        self._answer(HTTPStatus.OK, f"<{name}>{content}</{name}>".encode())

    def _answer(self, status: HTTPStatus, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
