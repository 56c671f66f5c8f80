"""The pages for people: whole without the network, and served with what keeps a browser out of trouble."""

import re
import threading
from importlib import resources
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from app import topology
from app.api import create_app, pages
from app.settings import Settings
from tests.browser import program


@pytest.fixture
def site(tmp_path: Path) -> FlaskClient:
    """A browser's view of a gateway whose Redis is away: pages need none."""
    _, plan = topology.load({})
    return create_app(Settings(redis_url="redis://127.0.0.1:1", data_dir=tmp_path), plan).test_client()


def test_the_docs_are_a_page_for_anyone(site: FlaskClient) -> None:
    answer = site.get("/docs")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"https?:", policy)
    assert "/openapi.json" in answer.text


def test_a_page_names_only_files_that_are_served(site: FlaskClient) -> None:
    named = re.findall(r'(?:src|href|spec-url)="([^"]+)"', site.get("/docs").text)

    assert len([path for path in named if path.startswith("/static/")]) >= 3
    for path in named:
        assert path.startswith(("/", "data:")), "nothing is loaded from elsewhere"
        if path.startswith("/"):
            assert site.get(path).status_code == 200


@pytest.mark.parametrize("name", pages.FILES)
def test_a_file_comes_with_its_kind_and_is_not_sent_twice(site: FlaskClient, name: str) -> None:
    first = site.get(f"/static/{name}")

    assert first.status_code == 200
    assert first.data == (resources.files("app.api") / "static" / name).read_bytes()
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    again = site.get(f"/static/{name}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    kept_for_ever = "immutable" in first.headers["Cache-Control"]
    assert kept_for_ever == bool(re.search(r"\d\.\d", name)), "only a name that tells the version may be kept unasked"


@pytest.mark.parametrize("name", [
    "docs.html", "nothing.js", "..", "../pages.py", "%2e%2e%2fpages.py", "..%2Fpages.py", "docs.css%00", "DOCS.CSS", ""])
def test_nothing_else_is_served(site: FlaskClient, name: str) -> None:
    assert site.get(f"/static/{name}").status_code == 404


def test_every_file_that_lies_there_is_a_page_or_served() -> None:
    lying = {each.name for each in (resources.files("app.api") / "static").iterdir()}

    assert {name for name in lying if not name.endswith(".html")} == set(pages.FILES)


def test_the_openapi_document_is_not_sent_twice(site: FlaskClient) -> None:
    tag = site.get("/openapi.json").headers["ETag"]

    assert site.get("/openapi.json", headers={"If-None-Match": tag}).status_code == 304


def test_a_browser_shows_the_docs_and_asks_nobody_else(site: FlaskClient) -> None:
    server = make_server("127.0.0.1", 0, site.application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/"
    asked: list[str] = []
    complaints: list[str] = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program(), args=["--no-sandbox"])
            page = browser.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(address + "docs")
            page.get_by_text("Submit a job under an id of the caller's choice").first.wait_for(timeout=20_000)
            browser.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert complaints == []
    assert f"{address}openapi.json" in asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
