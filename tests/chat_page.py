"""The chat page as somebody uses it who looks at it: what tests of it do again and again."""

import re
from typing import NamedTuple

from playwright.sync_api import Locator, Page, expect

from tests.browser import Visit
from tests.caller import Caller

PASSWORD = "correct horse battery"
UNAUTHORIZED = "the server responded with a status of 401"


class Reader(NamedTuple):
    """Somebody with an account, and a way to look at it without the page."""

    name: str
    caller: Caller


def sign_in(page: Page, name: str, password: str = PASSWORD) -> Page:
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    return page


def entered(visit: Visit, reader: Reader, path: str = "/") -> Page:
    """Open the page and sign in."""
    page = sign_in(visit.open(path), reader.name)
    expect(box(page)).to_be_visible()
    return page


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message", exact=True)


def say(page: Page, text: str) -> Locator:
    """Send a message; return where its answer is to appear."""
    count = page.get_by_role("article", name="Answer").count()
    box(page).fill(text)
    box(page).press("Enter")
    return page.get_by_role("article", name="Answer").nth(count)


def made(answer: Locator) -> Locator:
    """Where it stands how an answer was made."""
    return answer.get_by_role("list", name="How this answer was made")


def answered(page: Page, text: str) -> Locator:
    """Send a message and wait for its answer's end."""
    answer = say(page, text)
    expect(made(answer)).to_contain_text("via server")
    return answer


def change(page: Page, text: str) -> None:
    """Change the last message."""
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="Your message").fill(text)
    page.keyboard.press("Enter")


def conversation(page: Page) -> str:
    """Return the id of the conversation shown."""
    return page.url.partition("#")[2]


def rename(page: Page, name: str) -> None:
    """Give the conversation shown a name."""
    page.locator("li.open").get_by_role("button", name=re.compile("^Rename")).click()
    page.get_by_role("dialog").get_by_label("Title").fill(name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
