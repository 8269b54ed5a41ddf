"""On which address the metrics pages of Flink's processes listen, and how long a caller may take.

Flink's reporter has a setting for its port and none for its address: it listens on all of them. It uses Java's own HTTP
server, which any Java class may provide. `BoundHttpServers.java` does, for one address.
"""

from __future__ import annotations

__all__ = ["provider_options"]

_REQUEST_S = 10
_ANSWER_S = 60
"""The reporter answers with five threads. A request that is never whole would keep one of them for ever."""


def provider_options(host: str) -> list[str]:
    """Options of a Java process that has the jar of `stream.local.java_classes`."""
    return [
        "--add-exports=jdk.httpserver/sun.net.httpserver=ALL-UNNAMED",
        "-Dcom.sun.net.httpserver.HttpServerProvider=neardup.BoundHttpServers",
        f"-Dneardup.metrics.host={host}",
        f"-Dsun.net.httpserver.maxReqTime={_REQUEST_S}",
        f"-Dsun.net.httpserver.maxRspTime={_ANSWER_S}",
    ]
