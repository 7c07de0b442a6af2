"""The browser that the site's tests use: one that the system has, else Playwright's own.

``python tools/browser.py --install`` says which was found, and fetches one if there is none.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

# The first is Chromium without windows, which the tests do not need: a fifth faster.
COMMANDS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "%PROGRAMFILES%/Google/Chrome/Application/chrome.exe",
    "%PROGRAMFILES(X86)%/Google/Chrome/Application/chrome.exe",
    "%LOCALAPPDATA%/Google/Chrome/Application/chrome.exe",
)
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    # No request leaves this machine. Playwright's routes would see to that too, at a higher price:
    # each request would wait for them, and nothing would be cached.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
INSTALL_LIMIT = 600  # seconds

MISSING = """\
No browser for the tests of the site: they will be SKIPPED.
Install Chromium or Google Chrome (on Debian: apt-get install chromium), or set BROWSER_PATH
to the program's file."""


@functools.cache
def find() -> str | None:
    """The path of a Chromium, or None. Not to be called while Playwright is running."""
    named = os.environ.get("BROWSER_PATH")
    if named:
        if not Path(named).is_file():
            raise FileNotFoundError(f"BROWSER_PATH names no file: {named!r}")
        return named
    for command in COMMANDS:
        path = shutil.which(command)
        if path and runs(path):
            return path
    for place in PLACES:
        if Path(os.path.expandvars(place)).is_file():
            return os.path.expandvars(place)
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def runs(path: str) -> bool:
    """Some systems have a command of this name that only says how to install the browser."""
    try:
        return not subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def launch(playwright: Playwright, path: str) -> Browser:
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium has no sandbox for root
    flags = [*FLAGS, "--no-sandbox"] if as_root else list(FLAGS)
    return playwright.chromium.launch(executable_path=path, args=flags)


def install() -> str | None:
    """Let Playwright fetch its own Chromium."""
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    try:
        subprocess.run(command, timeout=INSTALL_LIMIT)
    except subprocess.TimeoutExpired:
        print(f"Gave up fetching a browser after {INSTALL_LIMIT} seconds.")
    find.cache_clear()
    return find()


def main(arguments: list[str]) -> None:
    if arguments != ["--install"]:
        sys.exit("usage: python tools/browser.py --install")
    try:
        path = find()
    except FileNotFoundError as error:
        sys.exit(str(error))
    if path is None:
        print("No browser found for the tests of the site; fetching one...")
        path = install()
    print(f"The tests of the site will use {path}." if path else MISSING)


if __name__ == "__main__":
    main(sys.argv[1:])
