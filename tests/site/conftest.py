"""The built site, served, and a browser to look at it with."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import browser as browser_tools  # noqa: E402
import interactive_figures  # noqa: E402
import serve  # noqa: E402

SITE = Path(os.environ.get("SITE", ROOT / "_build/html"))


def pages() -> list[str]:
    """The site's pages, by their addresses within it."""
    return sorted(page.relative_to(SITE).as_posix() for page in SITE.rglob("*.html"))


def pytest_generate_tests(metafunc) -> None:
    """A test that takes ``page_name`` runs once for each page."""
    if "page_name" in metafunc.fixturenames:
        # With no site there still is one test, which says so.
        metafunc.parametrize("page_name", pages() or ["index.html"])


@pytest.fixture(scope="session")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.fail(f"There is no built site in {SITE}. Build it first: make site", pytrace=False)
    return SITE


@pytest.fixture(scope="session")
def serve_folder():
    """Serve a folder; gives its address, ending in a slash."""
    servers = []

    def start(folder: Path) -> str:
        server = serve.start(folder, ports=[0])
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        return f"http://{serve.HOST}:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def address(site, serve_folder) -> str:
    return serve_folder(site)


@pytest.fixture(scope="session")
def figures(site, tmp_path_factory, serve_folder) -> str:
    """The address of the interactive figures, each alone on its page."""
    folder = tmp_path_factory.mktemp("figures")
    interactive_figures.write_alone(site, folder)
    return serve_folder(folder)


@pytest.fixture(scope="module")
def browser():
    path = browser_tools.find()
    if path is None and os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(browser_tools.MISSING, pytrace=False)
    if path is None:
        pytest.skip(browser_tools.MISSING)  # tests/conftest.py says so at the end, loudly
    with browser_tools.sync_playwright() as playwright:
        chromium = browser_tools.launch(playwright, path)
        yield chromium
        chromium.close()
