"""Who may ask this server, and what a browser that shows its pages may load.

A server on 127.0.0.1 can be reached by every page that the user's browser has open. A hostile name
that resolves to 127.0.0.1 (DNS rebinding) shows in the Host header; a request that another page
makes shows in Origin or Sec-Fetch-Site. All three are refused.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from flask import Flask, Response, request

from unvanish.i18n import _

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
LARGEST = 1_000_000  # bytes of a request's body


def policy(hashes: Iterable[str]) -> str:
    """Return the Content-Security-Policy; `hashes` are those of Dash's own inline scripts."""
    allowed = " ".join(hashes)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )


def protect(server: Flask, bound: str) -> None:
    """Refuse what does not come from this server's own pages. `bound`: the address listened to."""
    server.config["MAX_CONTENT_LENGTH"] = LARGEST

    @server.before_request
    def refuse() -> Response | None:
        if not host_allowed(request.host, bound):
            return refusal(
                _("this server does not answer to the name {name!r}").format(name=request.host),
                _("Open it by its address, as `unvanish serve` printed it."),
            )
        origin = request.headers.get("Origin")
        foreign = origin is not None and origin.partition("://")[2] != request.host
        if foreign or request.headers.get("Sec-Fetch-Site") == "cross-site":
            navigation = request.headers.get("Sec-Fetch-Mode") == "navigate"
            if foreign or request.method != "GET" or not navigation:
                return refusal(
                    _("another site's page may not ask this server"),
                    _("Open the address that `unvanish serve` printed."),
                )
        return None


def refusal(problem: str, remedy: str, status: int = 403) -> Response:
    """Return a plain-text answer that says what is wrong and what to do."""
    text = _("{problem}. {remedy}").format(problem=problem, remedy=remedy)
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8")


def host_allowed(host: str, bound: str) -> bool:
    """Whether a Host header names this server.

    A name can be made to point anywhere, an address cannot: where the server listens to more than
    this machine, any address is good, and of names only this machine's own.
    """
    name = hostname(host)
    if name in LOCAL or name == bound.lower():
        return True
    if bound in LOCAL:
        return False
    return _is_address(name) or name == socket.gethostname().lower()


def hostname(host: str) -> str:
    """Return a Host header without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
