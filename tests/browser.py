"""A real browser for the tests of the pages: Debian's Chromium, steered by Playwright. Where it is missing, they fail."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PATIENCE_MS = 15_000.0


def program() -> str:
    """Return the path of Chromium."""
    found = shutil.which("chromium")
    if found is None:
        pytest.fail("the pages are tested in a real browser, and there is none: apt-get install chromium", pytrace=False)
    return found


@contextmanager
def running() -> Iterator[Browser]:
    """A browser. While it runs, its thread has an event loop running."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(slots=True)
class Visit:
    """What somebody sees of one site, who has signed in nowhere yet: pages that share their storage, and all that the
    browser complains of in them."""

    context: BrowserContext
    origin: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # requests that went to other sites

    def open(self, path: str = "/") -> Page:
        """Open a page of the site in a tab of its own."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self._asked(request.url))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(self.origin + path)
        return page

    def _asked(self, url: str) -> None:
        if not url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.elsewhere.append(url)

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)


@contextmanager
def visit(browser: Browser, origin: str, *, width: int = 1280, height: int = 800, touch: bool = False) -> Iterator[Visit]:
    """A visit to a site, with nothing in store from earlier ones."""
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
    yield Visit(context, origin)
    context.close()
