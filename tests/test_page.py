"""The chat page in a real browser, on a real stack: what people do with it, and what must not happen to them."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from ops.sandbox import Sandbox
from tests import browser as chromium
from tests.browser import Visit
from tests.caller import Caller

PASSWORD = "correct horse battery"
PHONE = {"width": 390, "height": 844, "touch": True}
UNAUTHORIZED = "the server responded with a status of 401"

Talk = Callable[..., Page]


class Reader(NamedTuple):
    """Somebody with an account, and a way to look at it without the page."""

    name: str
    caller: Caller


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests here."""
    expect.set_options(timeout=chromium.PATIENCE_MS)
    with chromium.running() as one:
        yield one


@pytest.fixture(scope="module")
def reader(stack: Sandbox) -> Iterator[Reader]:
    """An account."""
    name = f"reader-{uuid.uuid4().hex[:8]}"
    added = stack.celery("users", "add", name, "--password-stdin", stdin=PASSWORD)
    assert added.returncode == 0, added.stderr
    entry = stack.report()["entry"]
    with Caller(entry) as anyone:
        token = anyone.call("POST", "/v1/auth/login", json={"username": name, "password": PASSWORD}).json()["access_token"]
    with Caller(entry, token) as caller:
        yield Reader(name, caller)


@pytest.fixture
def visit(browser: Browser, reader: Reader) -> Iterator[Visit]:
    """A visit on a desktop, in which the browser has nothing to complain of."""
    with chromium.visit(browser, reader.caller.address) as one:
        yield one
        assert (one.complaints, one.elsewhere) == ([], [])


@pytest.fixture
def phone(browser: Browser, reader: Reader) -> Iterator[Visit]:
    """A visit on a phone, in which the browser has nothing to complain of."""
    with chromium.visit(browser, reader.caller.address, width=390, height=844, touch=True) as one:
        yield one
        assert (one.complaints, one.elsewhere) == ([], [])


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


def played(*events: tuple[str, str, dict[str, Any]]) -> Callable[[Route], None]:
    """Answer a request for a job's events with these, and break the connection off."""
    body = "".join(f"id: {mark}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for mark, name, data in events)
    return lambda route: route.fulfill(status=200, content_type="text/event-stream", body=f"retry: 10\n\n{body}")


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


def test_somebody_signs_in_and_has_two_turns_answered_as_they_are_said(visit: Visit, reader: Reader) -> None:
    page = sign_in(visit.open(), reader.name, "wrong")
    expect(page.get_by_role("alert").first).to_have_text("Username and password do not fit.")
    assert UNAUTHORIZED in visit.complaints.pop()
    sign_in(page, reader.name)

    first = say(page, "The sea [stall 1500ms] is deep")
    expect(first).to_contain_text("The sea")
    assert "is deep" not in first.inner_text(), "the answer is shown before it is whole"
    expect(made(first)).to_contain_text("via server")
    expect(first.locator(".text")).to_have_text("The sea is deep")
    second = answered(page, "[think] How deep? [answer] Very deep")
    expect(second.locator(".text")).to_have_text("Very deep")

    thought = second.get_by_text("How deep?")
    expect(thought).to_be_hidden()
    second.get_by_text("Reasoning").click()
    expect(thought).to_be_visible()


def test_under_an_answer_stands_who_gave_it_and_at_what_expense(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    told = made(answered(page, "one two three")).get_by_role("listitem").all_inner_texts()

    job = next(job for job in reader.caller.call("GET", "/v1/jobs?service=chat").json()["data"])
    whole = reader.caller.job(job["id"])
    part = reader.caller.job(whole["result"]["model_job"])
    assert told[:4] == [f"{part['server']} {part['processor']}", f"via {whole['server']} {whole['processor']}", "attempt 1",
                        f"{whole['usage']['prompt_tokens']} + 3 tokens"]
    assert re.fullmatch(r"\d+\.\d\d s", told[4])


def test_an_answer_is_stopped_by_escape_and_by_the_button(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    first = say(page, "begun [stall 60s] never")
    expect(first).to_contain_text("begun")
    page.keyboard.press("Escape")
    expect(first).to_contain_text("Stopped.")

    second = say(page, "again [stall 60s] never")
    expect(second).to_contain_text("again")
    page.get_by_role("button", name="Stop the answer").click()
    expect(second).to_contain_text("Stopped.")
    expect(box(page)).to_be_focused()

    change(page, "third")
    expect(second.locator(".text")).to_have_text("third")
    expect(made(second)).to_contain_text("via server")


def test_the_last_turn_is_answered_anew_and_changed(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    answered(page, "first")
    answered(page, "second")

    page.get_by_role("button", name="Regenerate").click()
    answers = page.get_by_role("article", name="Answer")
    expect(made(answers.nth(1))).to_contain_text("via server")
    change(page, "third")
    expect(answers.nth(1).locator(".text")).to_have_text("third")
    expect(made(answers.nth(1))).to_contain_text("via server")

    change(page, "slow [stall 60s] fourth")
    expect(answers.nth(1).locator(".text")).to_have_text("slow")
    page.keyboard.press("Escape")
    expect(answers.nth(1)).to_contain_text("Stopped.")
    change(page, "fifth")
    expect(made(answers.nth(1))).to_contain_text("via server")
    page.reload()
    expect(page.get_by_role("article", name="Your message").locator(".text")).to_have_text(["first", "fifth"])
    expect(answers.locator(".text")).to_have_text(["first", "fifth"])


def test_conversations_are_named_kept_and_deleted(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    answered(page, "kept")
    kept = conversation(page)
    rename(page, "The one to keep")
    page.get_by_role("button", name="New conversation").click()
    answered(page, "gone")
    gone = conversation(page)
    rename(page, "The one to delete")

    page.get_by_role("button", name="Delete The one to delete").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Delete The one to delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("What would you like to know?")).to_be_visible()
    expect(page.get_by_role("button", name="The one to delete")).to_have_count(0)
    assert reader.caller.call("GET", f"/v1/conversations/{gone}").status_code == 404

    page.reload()
    page.get_by_role("button", name="The one to keep", exact=True).click()
    expect(page.get_by_role("article", name="Answer").locator(".text")).to_have_text("kept")
    assert conversation(page) == kept


def test_an_answer_under_way_is_found_again_after_a_reload(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    expect(say(page, "before [stall 3s] after")).to_contain_text("before")

    page.reload()
    answer = page.get_by_role("article", name="Answer")
    expect(answer).to_contain_text("before")
    expect(answer.locator(".text")).to_have_text("before after")


def test_a_broken_stream_goes_on_where_it_was_and_a_lost_attempt_is_void(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    marks: list[str | None] = []
    parts = [played(("0-1", "queued", {"position": 3, "eta_s": 42.4})),
             played(("1-0", "started", {"attempt": 1}), ("1-4", "token", {"text": "void", "attempt": 1})),
             played(("2-0", "restarted", {"attempt": 2}), ("2-5", "token", {"text": "<new>", "attempt": 2})),
             lambda route: route.abort()]
    seen: list[str] = []
    answers = page.get_by_role("article", name="Answer")

    def play(route: Route) -> None:
        seen.append(answers.inner_text() if marks else "")
        marks.append(route.request.headers.get("last-event-id"))
        parts.pop(0)(route) if parts else route.fallback()

    page.route("**/events", play)
    say(page, "the real answer [stall 1s] ends")
    expect(answers.locator(".text")).to_have_text("the real answer ends")

    assert marks[:5] == [None, "0-1", "1-4", "2-5", "2-5"]
    assert "void" in seen[2]
    assert "<new>" in seen[3]
    assert "void" not in seen[3]
    assert [text for text in visit.complaints if "ERR_FAILED" not in text] == []
    visit.complaints.clear()


def test_what_cannot_be_sent_comes_back_with_the_reason_and_when_to_try_again(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    page.route("**/messages", lambda route: route.fulfill(
        status=429, content_type="application/problem+json", headers={"Retry-After": "7"},
        json={"title": "Limit exceeded", "status": 429, "detail": "60 requests a minute are allowed"}))
    say(page, "too much")

    expect(page.get_by_role("alert")).to_have_text("60 requests a minute are allowed. Wait 7 s, then try again.")
    expect(box(page)).to_have_value("too much")
    assert "429" in visit.complaints.pop()
    page.unroute("**/messages")
    box(page).press("Enter")
    expect(page.get_by_role("article", name="Answer").locator(".text")).to_have_text("too much")


def test_a_failed_answer_says_why(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    expect(say(page, "[error permanent]")).to_contain_text("the script says [error permanent]")


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
    expect(page.get_by_role("article", name="Answer").locator(".text")).to_have_text("changed")
    expect(made(page.get_by_role("article", name="Answer"))).to_contain_text("via server")
    reach(page, "New conversation", backwards=True)
    page.keyboard.press("Enter")
    expect(box(page)).to_be_focused()


def test_a_reader_who_scrolled_up_is_left_where_he_is(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    page.get_by_text("Settings").click()
    page.get_by_label("Longest answer, in tokens").fill("3000")
    answer = say(page, "[repeat 2000 word] [stall 2500ms] end")
    log = page.get_by_role("log")
    expect(answer).to_contain_text("word word")
    expect(answer).not_to_contain_text("end")
    bottom = log.evaluate("log => new Promise((seen) => setTimeout(() => seen("
                          "log.scrollHeight - log.scrollTop - log.clientHeight), 200))")
    assert bottom < 2, "the end of the answer is kept in view"

    log.hover()
    page.mouse.wheel(0, -1500)
    expect(page.get_by_role("button", name="Latest")).to_be_visible()
    place = log.evaluate("log => log.scrollTop")
    expect(made(answer)).to_contain_text("via server")
    assert log.evaluate("log => log.scrollTop") == place
    page.get_by_role("button", name="Latest").click()
    expect(page.get_by_role("button", name="Latest")).to_be_hidden()


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
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], "nothing is wider than the screen"


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


def small(page: Page) -> list[str]:
    """Return the controls in view that are smaller than a finger (44 px)."""
    return list(page.evaluate("""() => [...document.querySelectorAll("button, summary, input, textarea")]
        .filter((each) => each.checkVisibility({ visibilityProperty: true }))
        .filter((each) => each.getBoundingClientRect().width < 44 || each.getBoundingClientRect().height < 44)
        .map((each) => each.outerHTML)"""))
