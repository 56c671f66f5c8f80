"""The chat page in a real browser, on a real stack: who gets in, what is kept out, and that everybody can use it."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ops.sandbox import Sandbox
from tests.browser import Visit
from tests.chat_page import PASSWORD, UNAUTHORIZED, Reader, answered, box, conversation, entered, made, rename, say


def test_the_page_lets_no_script_in_but_its_own(reader: Reader) -> None:
    answer = reader.caller.call("GET", "/")

    policy = answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy, "text is never read as markup"
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=\"/static/)", answer.text) == []
    again = reader.caller.call("GET", "/", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "<script>alert(1)</script> **<b>bold</b>**",
                                  "[click](javascript:alert(1)) `<i>x</i>`"])
def test_markup_in_a_message_stays_text(visit: Visit, reader: Reader, text: str) -> None:
    page = entered(visit, reader)
    page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    page.evaluate("text => { window.given = text; }", text)
    shown = page.evaluate("""async () => {
        const { Markdown } = await import("/static/chat-markdown.js");
        const element = document.createElement("div");
        new Markdown(element).show(window.given);
        return [element.textContent, [...element.querySelectorAll("*")].map((each) => each.tagName).sort()];
    }""")
    assert "<" in shown[0] or "javascript:" in shown[0]
    assert set(shown[1]) <= {"P", "STRONG", "CODE"}

    answer = answered(page, re.sub(r"\[click\]", "click", text))
    rename(page, text)
    assert answer.locator(".text").locator(":not(p, strong, code)").count() == 0
    expect(page.get_by_role("button", name=text, exact=True)).to_be_visible()


def test_an_access_token_that_has_ended_is_renewed_unseen(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    before = stored(page)
    page.evaluate("""() => {
        const session = JSON.parse(sessionStorage.getItem("tandem.session"));
        sessionStorage.setItem("tandem.session", JSON.stringify({ ...session, access: "ended" }));
    }""")
    page.reload()
    answered(page, "still here")

    after = stored(page)
    assert after["access"] not in ("ended", before["access"])
    assert after["refresh"] != before["refresh"]
    assert [text for text in visit.complaints if UNAUTHORIZED not in text] == []
    visit.complaints.clear()


def test_who_is_signed_out_elsewhere_is_asked_to_sign_in_again(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    reader.caller.call("POST", "/v1/auth/logout", json={"refresh_token": stored(page)["refresh"]})
    say(page, "anyone?")

    expect(page.get_by_text("Your session has ended. Please sign in again.")).to_be_visible()
    expect(page.get_by_label("Username")).to_be_focused()
    assert stored(page) is None
    visit.complaints.clear()


def test_two_tabs_share_a_session_and_see_each_others_turns(visit: Visit, reader: Reader) -> None:
    one = entered(visit, reader)
    answered(one, "from the first tab")
    other = visit.open(f"/#{conversation(one)}")
    expect(other.get_by_role("article", name="Answer")).to_have_count(1)

    answered(one, "and another")
    expect(other.get_by_role("article", name="Answer").nth(1).locator(".text")).to_have_text("and another")
    one.get_by_role("button", name="Sign out").click()
    expect(other.get_by_text("You signed out in another tab.")).to_be_visible()
    assert (stored(one), stored(other)) == (None, None)


def test_an_api_key_opens_the_page_too(visit: Visit, stack: Sandbox) -> None:
    page = visit.open()
    page.get_by_text("Use an API key").click()
    page.get_by_label("API key").fill(stack.report()["api_key"])
    page.keyboard.press("Enter")
    answered(page, "with a key")


def test_all_is_done_with_the_keyboard_alone(visit: Visit, reader: Reader) -> None:
    page = visit.open()
    expect(page.get_by_label("Username")).to_be_focused()
    for text in (reader.name, PASSWORD):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(box(page)).to_be_focused()
    page.keyboard.type("two")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("lines")
    page.keyboard.press("Enter")
    expect(page.locator(".question .text")).to_have_text("two\nlines", use_inner_text=True)
    expect(made(page.get_by_role("article", name="Answer"))).to_contain_text("via server")

    reach(page, "Edit", backwards=True)
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("changed")
    page.keyboard.press("Enter")
    assert outline(page) == "none", "who has not moved the focus into the log sees no frame around it"
    expect(page.get_by_role("article", name="Answer").locator(".text")).to_have_text("changed")
    expect(made(page.get_by_role("article", name="Answer"))).to_contain_text("via server")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert outline(page) == "solid"
    reach(page, "New conversation", backwards=True)
    page.keyboard.press("Enter")
    expect(box(page)).to_be_focused()


def test_on_a_phone_the_conversations_lie_in_a_drawer_and_all_buttons_can_be_hit(phone: Visit, reader: Reader) -> None:
    page = entered(phone, reader)
    answered(page, "a" * 300)
    reader.caller.call("PATCH", f"/v1/conversations/{conversation(page)}", json={"title": "a" * 100})
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("a" * 100)
    drawer = page.get_by_role("navigation", name="Conversations")
    expect(drawer).to_be_hidden()
    assert small(page) == []

    page.get_by_role("button", name="Conversations", exact=True).tap()
    expect(drawer).to_be_visible()
    expect(page.get_by_role("button", name="Close the conversations")).to_be_focused()
    assert page.locator("main", has=page.get_by_role("log", include_hidden=True)).get_attribute("inert") is not None
    assert small(page) == []
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(page.get_by_role("button", name="Conversations", exact=True)).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing is wider than the screen"


def test_markdown_becomes_blocks_and_what_is_not_understood_stays(visit: Visit) -> None:
    page = visit.open()
    text = ("# Title\n\nSome **bold** *and* `code`, 2 * 3 * 4, snake_case_name\n\n1. one\n2. two\n   - inner\n\n"
            "```python\nif a < b:\n    pass\n```\n> quoted\n\n---\n\n```\nnot closed")
    shown = page.evaluate("""async (text) => {
        const { Markdown } = await import("/static/chat-markdown.js");
        const element = document.createElement("div");
        const markdown = new Markdown(element);
        for (let end = 1; end <= text.length; end += 1) markdown.show(text.slice(0, end));  // as it comes
        const tree = (node) => node.nodeType === 3 ? node.data
            : [node.tagName.toLowerCase(), ...[...node.childNodes].map(tree)];
        return [...element.children].map(tree);
    }""", text)

    assert shown[0] == ["h3", "Title"]
    assert shown[1] == ["p", "Some ", ["strong", "bold"], " ", ["em", "and"], " ", ["code", "code"],
                        ", 2 * 3 * 4, snake_case_name"]
    assert shown[2] == ["ol", ["li", "one"], ["li", "two", ["ul", ["li", "inner"]]]]
    assert shown[3][2] == ["pre", ["code", "if a < b:\n    pass"]]
    assert shown[4:6] == [["blockquote", "quoted"], ["hr"]]
    assert shown[6][2] == ["pre", ["code", "not closed"]]


def stored(page: Page) -> Any:
    """Return the session that the tab keeps."""
    return json.loads(page.evaluate("sessionStorage.getItem('tandem.session')") or "null")


def reach(page: Page, name: str, *, backwards: bool = False) -> None:
    """Move the focus by Tab to what has this name."""
    target = page.get_by_role("button", name=name)
    for _ in range(30):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"'{name}' is not reached with the keyboard")


def outline(page: Page) -> str:
    """Return the frame of the log, which has the focus."""
    expect(page.get_by_role("log")).to_be_focused()
    return str(page.get_by_role("log").evaluate("log => getComputedStyle(log).outlineStyle"))


def small(page: Page) -> list[str]:
    """Return the controls in view that are smaller than a finger (44 px)."""
    return list(page.evaluate("""() => [...document.querySelectorAll("button, summary, input, textarea")]
        .filter((each) => each.checkVisibility({ visibilityProperty: true }))
        .filter((each) => each.getBoundingClientRect().width < 44 || each.getBoundingClientRect().height < 44)
        .map((each) => each.outerHTML)"""))
