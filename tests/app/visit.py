"""One person's browser on the page, and everything that went wrong in it.

Browsers are slow on a loaded machine: set ADHERE_PATIENCE (2, 3...) to stretch every timeout.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

PATIENCE = float(os.environ.get("ADHERE_PATIENCE", "1"))
SECONDS = 60 * PATIENCE
"""How long a test waits for anything on a page."""


TABS = {"autopilot": "Autopilot", "compose": "Compose", "paint": "Layout", "safety": "Safety"}
"""The tabs that generate, by name, with what they are called."""


def profile(chromium: Any, **options: Any) -> Any:
    """A person's browser: what it stores is apart from others'."""
    return chromium.new_context(**{"viewport": {"width": 1366, "height": 768}, **options})


class Visit:
    """One person's visit: `page`, and the `trouble` it had.

    With a `shared` profile it goes on with the scripts that visits before have loaded, which saves
    half of the time that a page takes; what the page stored goes with it.
    """

    def __init__(self, chromium: Any, url: str, shared: Any = None, **options: Any) -> None:
        self.shared = shared
        self.context = shared or profile(chromium, **options)
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.leaving = False
        self.home = url
        page = self.page
        page.set_default_timeout(SECONDS * 1000)
        page.on("console", lambda m: m.type == "error" and self.trouble.append(m.text))
        page.on("pageerror", lambda e: self.trouble.append(str(e)))
        page.on("response", self._answered)
        page.on("requestfailed", self._failed)
        page.on("request", self._requested)
        self.open()

    def open(self, query: str = "") -> None:
        """Open the page, at Compose; with a link's query, where the link leads."""
        self.arrive(query)
        if not query:
            self.tab("Compose")
            self.page.wait_for_selector("#compose-words .token", state="attached")

    def arrive(self, query: str = "") -> None:
        """Open the page, as anybody does who comes to it."""
        self.leaving = True
        self.page.goto(self.home + query)
        self.leaving = False
        # Set once all its events are bound: from then on the page listens.
        self.page.wait_for_selector("body[data-adhere=ready]")

    def close(self) -> None:
        self.leaving = True
        if self.shared is None:
            self.context.close()
            return
        blank, *pages = self.context.pages
        for page in pages:
            page.close()
        stored = {
            "origin": self.home.rstrip("/"),
            "storageTypes": "cookies,local_storage,indexeddb",
        }
        self.context.new_cdp_session(blank).send("Storage.clearDataForOrigin", stored)

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.trouble.append(f"{response.status} {response.url}")

    def _failed(self, request: Any) -> None:
        # The event stream ends when its last event has come, and what still loads when the page is
        # left ends with it: the browser calls that aborted.
        stream = "queue/data" in request.url or "heartbeat" in request.url
        if request.failure != "net::ERR_ABORTED" or not (stream or self.leaving):
            self.trouble.append(f"failed: {request.url}: {request.failure}")

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.trouble.append(f"left the machine: {request.url}")

    def status(self, tab: str, text: str) -> None:
        """Wait until a tab's status says something."""
        self.page.wait_for_function(
            "([id, text]) => document.getElementById(id)?.innerText?.includes(text)",
            arg=[f"{tab}-status", text],
        )

    def generate(self, tab: str, text: str = "Done") -> None:
        """Press a tab's Generate and wait for its end."""
        self.page.wait_for_selector(f"#{tab}-go:not([disabled])")
        self.page.evaluate(
            "(id) => { document.querySelector(`#${id} .text`).textContent = 'not yet'; }",
            f"{tab}-status",
        )
        self.page.click(f"#{tab}-go")
        self.status(tab, text)
        self.page.wait_for_selector(f"#{tab}-go:not([disabled])")

    def fill(self, tab: str, prompt: str) -> None:
        box = self.page.locator(f"#{tab}-prompt textarea, #{tab}-prompt input")
        box.fill(prompt)
        box.blur()

    def tab(self, name: str) -> None:
        """Open a tab, from the menu where the page is too narrow for all."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if tab.first.is_visible():
            tab.first.click()
        else:
            self.page.locator(".overflow-menu button").first.click()
            self.page.locator(".overflow-dropdown button", has_text=name).first.click()

    def role(self, word: str) -> str:
        token = self.page.locator("#compose-words .token", has_text=word).first
        return re.sub(r"\s+", " ", token.inner_text()).strip().lower()


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that is not on the page."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
