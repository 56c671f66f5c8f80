"""The chat page in a real browser, on a real stack: what people do with it."""

import json
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route, expect

from tests.browser import Visit
from tests.chat_page import UNAUTHORIZED, Reader, answered, box, change, conversation, entered, made, rename, say, sign_in


def played(*events: tuple[str, str, dict[str, Any]]) -> Callable[[Route], None]:
    """Answer a request for a job's events with these, and break the connection off."""
    body = "".join(f"id: {mark}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for mark, name, data in events)
    return lambda route: route.fulfill(status=200, content_type="text/event-stream", body=f"retry: 10\n\n{body}")


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
    facts = made(answered(page, "one two three"))
    expect(facts).to_contain_text("attempt")
    told = facts.get_by_role("listitem").all_inner_texts()

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
    expect(first).to_contain_text("Stopped. This turn is not kept in the conversation.")
    expect(made(first)).to_contain_text("via server")
    expect(made(first)).not_to_contain_text("attempt")
    expect(made(first).locator(".place")).to_have_count(0)  # the model's worker is not known

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
    expect(page.get_by_text("What would you like to know?")).to_be_visible()
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

    page.evaluate("() => { window.requestAnimationFrame = () => 1; }")  # a browser too busy to paint
    page.route("**/events", play)
    say(page, "the real answer [stall 1s] ends")
    expect(answers.locator(".text")).to_have_text("the real answer ends")

    assert marks[:5] == [None, "0-1", "1-4", "2-5", "2-5"]
    assert "void" in seen[2]
    assert "<new>" in seen[3]
    assert "Begun anew on another worker" in seen[3]
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


def test_what_is_sent_offline_comes_back_and_so_does_what_it_was_to_change(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    answered(page, "here")
    page.context.set_offline(True)
    say(page, "there")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    expect(box(page)).to_have_value("there")

    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("article", name="Answer").locator(".text")).to_be_empty()
    expect(page.get_by_role("article", name="Answer").locator(".text")).to_have_text("here")
    page.context.set_offline(False)
    assert [text for text in visit.complaints if "ERR_INTERNET_DISCONNECTED" not in text] == []
    visit.complaints.clear()


def test_a_failed_answer_says_why_and_that_it_is_not_kept(visit: Visit, reader: Reader) -> None:
    page = entered(visit, reader)
    failed = say(page, "[error permanent]")
    expect(failed).to_contain_text("the script says [error permanent]")
    expect(failed).to_contain_text("This turn is not kept in the conversation.")


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
