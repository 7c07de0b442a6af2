"""Serve a folder on this machine only: ``python tools/serve.py _build/html``."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
PORTS = range(8000, 8100)


class Handler(SimpleHTTPRequestHandler):
    # Said here because some systems have other ideas.
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".ipynb": "application/x-ipynb+json",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".woff": "font/woff",
        ".woff2": "font/woff2",
    }

    def log_message(self, *arguments) -> None:
        """Say nothing about each request."""


class Server(ThreadingHTTPServer):
    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers share a port
    daemon_threads = True


def start(folder: str | Path, ports=PORTS) -> Server:
    """A server of the folder, on the first of the ports that is free (0 means any)."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r} to serve; build it: make site")
    for port in ports:
        with contextlib.suppress(OSError):
            return Server((HOST, port), partial(Handler, directory=str(folder)))
    raise OSError(f"no free port from {ports[0]} to {ports[-1]}")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit("usage: python tools/serve.py FOLDER")
    try:
        server = start(arguments[0])
    except OSError as error:
        sys.exit(f"Cannot serve: {error}")
    print(f"The site is at http://{HOST}:{server.server_port}/ (Ctrl-C ends this).", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    server.server_close()
    print()


if __name__ == "__main__":
    main(sys.argv[1:])
