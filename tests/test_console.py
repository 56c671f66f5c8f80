"""The console in a real browser: on a served gateway whose Redis holds a round of the routing task, and on a stack."""

import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import redis
from playwright.sync_api import Browser, Locator, Page, expect
from werkzeug.serving import make_server

from app.accounts import Role
from app.investigations import Investigations
from app.ledger import Ledger
from app.routing_board import RoutingBoard
from app.settings import Settings
from ops import embedded_redis
from ops.embedded_redis import EmbeddedRedis
from ops.sandbox import Sandbox
from tests import browser as chromium
from tests.browser import Visit
from tests.chat_page import PASSWORD, sign_in
from tests.gateway import Gateway
from tests.operating import operate
from tests.routing_round import LEADER, a_round, cpu_alert, decision, now_ms, remembered, write

FRESH_MS = 3_600_000  # how far a test's round lies ahead of Redis's clock, so that it is the last one for the whole test


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One Redis: what a page looks like is the same on each."""
    server = embedded_redis.start(tmp_path_factory.mktemp("redis"), fsync="no")
    yield server
    server.stop()


@pytest.fixture
def operator(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(replace(settings, mns_url="mns://127.0.0.1:1"), client, role=Role.OPERATOR, name="operator")


@pytest.fixture
def address(operator: Gateway) -> Iterator[str]:
    """Where the gateway is served."""
    server = make_server("127.0.0.1", 0, operator.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def visiting(browser: Browser, address: str, **options: Any) -> Iterator[Visit]:
    """A visit in which the browser has nothing to complain of, and asks nobody else."""
    with chromium.visit(browser, address, **options) as one:
        yield one
        assert (one.complaints, one.elsewhere) == ([], [])


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    with visiting(browser, address) as one:
        yield one


def with_key(visit: Visit, key: str, path: str = "/console") -> Page:
    """Open the console and sign in with an API key."""
    page = visit.open(path)
    page.get_by_text("Use an API key").click()
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    return page


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def fresh(client: redis.Redis, **changes: object) -> None:
    """Leave a round that stays the last one."""
    write(client, a_round(now_ms(client) + FRESH_MS, **changes))


# -- what it shows


def test_an_operator_sees_signals_servers_flow_spend_alerts_and_history(
        visit: Visit, operator: Gateway, client: redis.Redis, ledger: Ledger) -> None:
    ledger.lead("routing", LEADER, 600)
    ledger.register("model@server-1", {
        "server": "server-1", "services": "model", "pid": 7, "host": "h", "processors": "P2", "cpus": "1", "slots": 16,
        "busy": 3, "idle_ms": 0, "figures": "{}"}, 600)
    fresh(client)
    page = with_key(visit, operator.key)

    expect(page.get_by_text("acting queue@server-2 leads")).to_be_visible()
    alert = section(page, "Open alerts").get_by_role("listitem")
    expect(alert).to_contain_text("CPU, server-1: 93.5% against 80%, since")
    expect(alert).to_contain_text("What is done: failover.")
    signals = section(page, "Signals").get_by_role("listitem")
    expect(signals.filter(has_text="CPU").first).to_contain_text("alert 42 s")
    expect(signals.filter(has_text="Response time").first).to_contain_text("warning")
    expect(signals.filter(has_text="Memory").nth(1)).to_contain_text("unknown")
    expect(signals.first.get_by_role("img")).to_have_attribute("aria-label", "93.5%; normal to 70, alert from 80%")
    server = page.get_by_role("article", name="server-1")
    expect(server).to_contain_text("saturated")
    expect(server).to_contain_text("Takes nothing new of model")
    expect(server.get_by_role("row", name=re.compile("^model"))).to_have_text(re.compile(r"model\s*P2\s*1\s*3 of 16\s*99%"))
    expect(server.get_by_role("row", name=re.compile("^auth"))).to_contain_text("none lives")
    cloud = section(page, "Cloud")
    expect(cloud).to_contain_text("167 jobs would wait longer than 5 s")
    told = {"Share of the excess that leaves": "50%", "Sent, not begun": "24", "Running in the cloud": "8",
            "Spent this hour": "3.275 of 100", "Sent this minute": "48 of 600", "Breaker": "closed",
            "Refused lanes": "batch the wait ahead is 130 s"}
    for name, value in told.items():
        expect(cloud.locator("dt", has_text=name).locator("+ dd")).to_contain_text(value)
    expect(section(page, "Queues").get_by_role("row", name=re.compile("^model"))).to_contain_text("17 s")
    expect(section(page, "Shadow")).to_contain_text("It would have sent jobs in 40 of 300 rounds and made 2 changes")
    expect(section(page, "History").get_by_role("listitem").first).to_contain_text("0.25 → 0.5")
    expect(page).to_have_title("(1) Console · Tandem")


def test_what_changes_is_shown_within_seconds_and_the_focus_stays(
        visit: Visit, operator: Gateway, client: redis.Redis) -> None:
    alert = cpu_alert(now_ms(client) / 1000, investigation="r1")
    fresh(client, remembered=remembered(now_ms(client) / 1000, alerts={"cpu_percent@server-1": alert}))
    page = with_key(visit, operator.key)
    link = page.get_by_role("link", name="Read the report")
    link.focus()
    expect(link).to_be_focused()

    fresh(client, decision=decision(reason="all is calm"),
          remembered=remembered(now_ms(client) / 1000, alerts={"cpu_percent@server-1": alert}, share=0.75))
    RoutingBoard(client).pause("ann@desk", "repairs")
    expect(section(page, "Cloud")).to_contain_text("all is calm")
    expect(section(page, "Cloud")).to_contain_text("75%")
    expect(page.get_by_text("paused by ann@desk since")).to_be_visible()
    expect(link).to_be_focused()


def test_what_a_round_that_does_not_act_decides_is_told_as_what_it_would_do(
        visit: Visit, operator: Gateway, client: redis.Redis) -> None:
    fresh(client, acting=False)
    cloud = section(with_key(visit, operator.key), "Cloud")

    expect(cloud).to_contain_text("Would, if it were acting: 167 jobs would wait longer than 5 s")
    told = {"Share of the excess that would leave": "50%", "In this round": "16 jobs would be sent, 0 recalled",
            "Pools at home would be": "at their largest", "Cloud workers that would be wanted": "2"}
    for name, value in told.items():
        expect(cloud.locator("dt", has_text=name).locator("+ dd")).to_contain_text(value)


def test_on_a_narrow_screen_the_title_of_a_report_leaves_room_to_close_it(
        browser: Browser, address: str, operator: Gateway, client: redis.Redis) -> None:
    report_id = Investigations(client).ask(cpu_alert(now_ms(client) / 1000, name="response_s"))
    with visiting(browser, address, width=390, height=844) as visit:
        report = section(with_key(visit, operator.key, f"/console#investigation/{report_id}"), f"Investigation {report_id}")
        expect(report).to_contain_text(f"Report {report_id}")
        title_ends, close_begins = report.locator("h2").evaluate("""(title) => {
          const text = document.createRange();
          text.selectNodeContents(title);
          return [text.getBoundingClientRect().right, document.querySelector(".close").getBoundingClientRect().left];
        }""")

    assert title_ends <= close_begins


def test_an_alert_leads_to_the_report_of_its_investigation_by_keyboard(
        visit: Visit, operator: Gateway, client: redis.Redis) -> None:
    alert = cpu_alert(now_ms(client) / 1000, name="response_s", detail="slow")
    report_id = Investigations(client).ask(alert)
    alert = msgspec.structs.replace(alert, investigation=report_id)
    fresh(client, remembered=remembered(now_ms(client) / 1000, alerts={"response_s@server-1": alert}))
    page = with_key(visit, operator.key)
    page.get_by_role("link", name="Read the report").press("Enter")

    report = section(page, f"Investigation {report_id}")
    expect(report).to_contain_text(f"Report {report_id}")
    expect(report).to_be_focused()
    page.reload()
    expect(report).to_contain_text(f"Report {report_id}")
    report.get_by_role("link", name="Close").press("Enter")
    expect(report).to_be_hidden()


def test_reports_are_listed_also_those_of_alerts_that_have_closed(
        visit: Visit, operator: Gateway, client: redis.Redis) -> None:
    report_id = Investigations(client).ask_by_hand("ann@desk", "it feels slow")
    page = with_key(visit, operator.key)
    entry = section(page, "Investigations").get_by_role("listitem")
    expect(entry).to_contain_text("asked for by ann@desk")
    entry.get_by_role("link").click()

    expect(section(page, f"Investigation {report_id}")).to_contain_text("it feels slow")


@pytest.mark.parametrize("name", ["%", "%2e%2e/status", "..%2fstatus"])
def test_an_address_that_names_no_report_shows_none(visit: Visit, operator: Gateway, name: str) -> None:
    page = with_key(visit, operator.key, f"/console#investigation/{name}")

    expect(page.get_by_text("Nobody leads: no round for 10 s")).to_be_visible()
    expect(page.locator("#report")).to_be_hidden()


def test_without_a_leader_nothing_is_made_up(visit: Visit, operator: Gateway) -> None:
    page = with_key(visit, operator.key)

    expect(page.get_by_text("Nobody leads: no round for 10 s")).to_be_visible()
    expect(section(page, "Open alerts")).to_contain_text("None is open.")
    expect(section(page, "Signals")).to_contain_text("Not known while nobody leads.")
    expect(section(page, "Shadow")).to_be_hidden()
    expect(section(page, "History")).to_contain_text("Nothing has changed yet.")
    expect(page.get_by_role("article", name="server-1")).to_contain_text("unknown")


def test_text_from_elsewhere_cannot_become_markup(visit: Visit, operator: Gateway, client: redis.Redis) -> None:
    bad = "<img src=x onerror=alert(1)><b>bold</b>"
    alert = cpu_alert(now_ms(client) / 1000, detail=bad)
    fresh(client, decision=decision(reason=bad),
          remembered=remembered(now_ms(client) / 1000, alerts={"cpu_percent@server-1": alert}))
    page = with_key(visit, operator.key)

    expect(section(page, "Open alerts")).to_contain_text(bad)
    expect(section(page, "Cloud")).to_contain_text(bad)
    assert page.locator("#facts img").count() == page.locator("#facts b").count() == 0


# -- who may, and what goes wrong


def test_who_is_no_operator_gets_a_clear_word_and_may_sign_in_as_another(
        browser: Browser, address: str, operator: Gateway) -> None:
    with chromium.visit(browser, address) as visit:
        key = visit.open("/console")
        key.evaluate("session => sessionStorage.setItem('tandem.session', JSON.stringify(session))", {
            "id": "x", "name": "ann", "access": operator.another("ann").key, "refresh": None, "endsAt": 4e12})
        key.reload()
        expect(key.get_by_role("heading", name="For operators only")).to_be_visible()
        expect(key.get_by_text("You are signed in as ann. This needs the role operator")).to_be_visible()
        key.get_by_role("button", name="Sign in as somebody else").click()
        expect(key.get_by_label("Username")).to_be_focused()
        assert all("status of 403" in each for each in visit.complaints)
        assert visit.elsewhere == []


def test_a_gateway_that_fails_is_told_and_asked_again(
        browser: Browser, address: str, operator: Gateway, client: redis.Redis) -> None:
    fresh(client)
    with chromium.visit(browser, address) as visit:
        page = with_key(visit, operator.key)
        expect(page.get_by_text("acting queue@server-2 leads")).to_be_visible()
        page.route("**/v1/status", lambda route: route.abort())
        expect(page.get_by_role("alert").filter(has_text="The server cannot be reached.")).to_contain_text(
            "What is shown is of")
        page.unroute("**/v1/status")
        expect(page.get_by_role("alert").filter(has_text="The server")).to_have_count(0)
        assert visit.elsewhere == []


def test_it_fits_a_phone_and_the_dark(browser: Browser, address: str, operator: Gateway, client: redis.Redis) -> None:
    fresh(client)
    with visiting(browser, address, width=390, height=844, touch=True) as visit:
        page = with_key(visit, operator.key)
        expect(section(page, "History").get_by_role("listitem")).to_have_count(3)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


# -- on a stack


@pytest.mark.timeout(200)
def test_an_operator_signs_in_on_a_stack_and_sees_its_workers_on_their_processors(stack: Sandbox, browser: Browser) -> None:
    name = f"operator-{uuid.uuid4().hex[:8]}"
    added = operate(stack, "users", "add", name, "--role", "operator", "--password-stdin", stdin=PASSWORD)
    assert added.returncode == 0, added.stderr
    with visiting(browser, stack.report()["entry"]) as visit:
        page = sign_in(visit.open("/console"), name)
        row = page.get_by_role("article", name="server-2").get_by_role("row", name=re.compile("^model"))
        expect(row).to_have_text(re.compile(r"model\s*P7\s*\d+\s*0 of 16"))
        expect(page.get_by_text(name)).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Username")).to_be_focused()
        expect(page.get_by_role("article", name="server-2")).to_be_hidden()
