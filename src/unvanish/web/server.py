"""One process that serves both languages: `/en/` and `/zh/` are Dash applications of their own.

Served by waitress, not by Flask's own server: that one is made for development, starts a thread for
every connection without a bound, and waits for ever for a request that does not end.
"""

from __future__ import annotations

import errno
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dash import Dash
from flask import Flask, Response, redirect
from waitress.server import create_server

from unvanish import i18n
from unvanish.errors import UsageError
from unvanish.i18n import LANGUAGES, _
from unvanish.report.page import asset
from unvanish.web import controls, guard, shell
from unvanish.web.playground import Playground
from unvanish.web.runs import Runs
from unvanish.web.site import Site
from unvanish.web.views import chain, compare, fix, home, play, rule, run, theory

PORT = 8350
TRIED = 20  # ports after the first
THREADS = 8
ASSETS = Path(__file__).with_name("assets")
VIEWS = {
    "": home,
    "run": run,
    "rule": rule,
    "fix": fix,
    "compare": compare,
    "chain": chain,
    "theory": theory,
    "playground": play,
}


def make(
    directory: Path, host: str = "127.0.0.1", instance: str | None = None
) -> tuple[Flask, Site]:
    """Return the WSGI application on the store in `directory`, and its state.

    `host` is the address it will listen to. Call `site.playground.close()` when it ends.
    """
    instance = instance or secrets.token_hex(8)
    server = Flask("unvanish.web")
    guard.protect(server, host)
    site = Site(directory, Runs(directory), Playground())
    hashes: set[str] = set()
    for language in LANGUAGES:
        with i18n.speaking(language):
            app = _application(server, site, language, instance)
            hashes.update(app.csp_hashes())
    _add_routes(server, site, instance)
    policy = guard.policy(sorted(hashes))

    @server.after_request
    def head(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response

    server.wsgi_app = _Speaking(server.wsgi_app)  # type: ignore[method-assign]  # as WSGI has it
    return server, site


class _Speaking:
    """WSGI middleware: answers in the language that the path begins with."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        first = environ.get("PATH_INFO", "").strip("/").partition("/")[0]
        with i18n.speaking(first if first in LANGUAGES else i18n.current()):
            return self._application(environ, start_response)


def _application(server: Flask, site: Site, language: str, instance: str) -> Dash:
    prefix = f"/{language}/"
    app = Dash(
        f"unvanish.web.{language}",
        server=server,  # type: ignore[arg-type]  # a Flask is what its documentation asks for
        url_base_pathname=prefix,
        assets_folder=str(ASSETS),
        serve_locally=True,
        suppress_callback_exceptions=True,  # views are made when they are asked for
        index_string=shell.index(language, instance),
        external_stylesheets=["/report.css"],
        external_scripts=["/fit.js"],
        title="Unvanish",
        update_title="",
        compress=False,
        enable_mcp=False,
        add_log_handler=False,
    )
    app.layout = shell.layout
    controls.register(app)
    made = {}
    for name, view in VIEWS.items():
        view.register(app, site, prefix)
        made[name] = view.view(site, prefix)
    shell.register(app, prefix, made)
    return app


def _add_routes(server: Flask, site: Site, instance: str) -> None:
    @server.get("/")
    def start() -> Any:
        return redirect(f"/{i18n.current()}/")

    @server.get("/alive")
    def alive() -> Response:
        return _text(instance, "text/plain")

    @server.get("/fit.js")
    def fit() -> Response:
        return _text(asset("fit.js"), "text/javascript")

    @server.get("/report.css")
    def style() -> Response:
        return _text(asset("page.css"), "text/css")

    run.add_routes(server, site)


def _text(text: str, kind: str) -> Response:
    response = Response(text, content_type=f"{kind}; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    return response


class Serving:
    """A server that listens; `run` answers until it is interrupted."""

    def __init__(self, directory: Path, host: str, port: int | None) -> None:
        """Listen on `port`; without one on the first that is free from PORT on.

        Raises UsageError where the port is taken or not allowed, or the host is not ours.
        """
        self.application, self.site = make(directory, host)
        try:
            self._server = _listen(self.application, host, port)
        except BaseException:
            self.site.playground.close()
            raise
        self.host, self.port = host, int(self._server.effective_port)

    @property
    def address(self) -> str:
        """The address of the first page."""
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        name = f"[{shown}]" if ":" in shown else shown
        return f"http://{name}:{self.port}/"

    def run(self) -> None:
        """Answer until Ctrl-C or SIGTERM; then end every training of the playground."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a moment's wait is no news
        try:
            self._server.run()
        finally:
            self.close()

    def close(self) -> None:
        """Listen no more."""
        self._server.close()
        self.site.playground.close()


def _listen(application: Flask, host: str, port: int | None) -> Any:
    ports = [port] if port is not None else range(PORT, PORT + TRIED)
    for number in ports:
        try:
            return create_server(
                application,
                host=host,
                port=number,
                threads=THREADS,
                ident=None,
                max_request_body_size=guard.LARGEST,
                channel_timeout=60,
            )
        except (socket.gaierror, ValueError) as error:  # waitress looks the name up itself
            raise UsageError(
                _("{host!r} is no address of this machine").format(host=host),
                _("Give --host 127.0.0.1 or an address of this machine."),
            ) from error
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES) and port is None:
                continue
            raise _cannot(host, number, error) from error
    raise UsageError(
        _("the ports {first} to {last} are all taken").format(first=PORT, last=PORT + TRIED - 1),
        _("Give --port a number that is free, or 0 for any."),
    )


def _cannot(host: str, port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            _("port {port} is taken").format(port=port),
            _("Give another --port, or leave it out: the next free one is found."),
        )
    if error.errno == errno.EACCES:
        return UsageError(
            _("port {port} is not allowed").format(port=port), _("Give a --port above 1023.")
        )
    return UsageError(
        _("cannot listen on {host}:{port} ({error})").format(
            host=host, port=port, error=error.strerror or error
        ),
        _("Give --host 127.0.0.1 or an address of this machine."),
    )
