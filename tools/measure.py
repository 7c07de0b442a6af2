"""Measure the site: build times, and what a page's first view costs. Prints Markdown.

Builds a copy of the book in a temporary folder, so nothing here is touched.
"""

from __future__ import annotations

import functools
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import browser
import serve
from playwright.sync_api import Browser, Response, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info")


def size(response: Response) -> int:
    """The bytes that a host which compresses would send for it."""
    return compressed(response.body())


@functools.lru_cache(maxsize=200)
def compressed(body: bytes) -> int:
    """The bytes of a file, compressed where that is shorter. (Pages share most of their files.)"""
    return min(len(body), len(gzip.compress(body)))


def first_view(chromium: Browser, url: str) -> tuple[int, int]:
    """How many requests a page makes, and how many bytes come, with an empty cache."""
    context = chromium.new_context()
    page = context.new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    page.goto(url, wait_until="networkidle")
    sizes = [size(response) for response in responses]
    context.close()
    return len(sizes), sum(sizes)


def build(book: Path) -> float:
    """Seconds that a build takes."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    start = time.perf_counter()
    subprocess.run(
        [*command, str(book), "-W", "-n", "--keep-going", "--quiet"], check=True, stdout=sys.stderr
    )
    return time.perf_counter() - start


def edit(book: Path) -> None:
    """Change the text of the first notebook."""
    path = sorted(book.glob("chapters/**/*.ipynb"))[0]
    notebook = json.loads(path.read_text(encoding="utf8"))
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    cell["source"] = "".join(cell["source"]) + "\n\nOne more sentence."
    path.write_text(json.dumps(notebook), encoding="utf8")


def measure_pages(site: Path, path: str) -> list[tuple[str, int, int]]:
    """For each page: its name, its requests, its bytes."""
    server = serve.start(site, ports=[0])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://{serve.HOST}:{server.server_port}/"
    names = sorted(page.relative_to(site).as_posix() for page in site.rglob("*.html"))
    with sync_playwright() as playwright:
        chromium = browser.launch(playwright, path)
        rows = [(name, *first_view(chromium, address + name)) for name in names]
        chromium.close()
    server.shutdown()
    return rows


def main() -> None:
    path = browser.find()
    if path is None:
        sys.exit(browser.MISSING)
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "book"
        shutil.copytree(ROOT, book, ignore=LEFT_OUT)
        cold = build(book)
        edit(book)
        warm = build(book)
        rows = measure_pages(book / "_build/html", path)
    print("| Build | Seconds |\n|---|---:|")
    print(f"| from nothing | {cold:.1f} |\n| after one edit | {warm:.1f} |\n")
    print("| Page, first view | Requests | kB, compressed |\n|---|---:|---:|")
    for name, requests, total in rows:
        print(f"| {name} | {requests} | {total / 1000:.0f} |")


if __name__ == "__main__":
    main()
