"""What comes before any credentials is bounded, however it is sent."""

import io
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app import topology
from app.api import create_app
from app.settings import Settings

LARGEST = 16_384


@pytest.fixture
def site(tmp_path: Path) -> FlaskClient:
    """A gateway whose Redis is away: a body that is refused needs none."""
    _, plan = topology.load({})
    return create_app(Settings(redis_url="redis://127.0.0.1:1", data_dir=tmp_path), plan).test_client()


@pytest.mark.parametrize("path", ["/v1/auth/login", "/v1/auth/refresh", "/v1/auth/logout"])
@pytest.mark.parametrize("stated", [True, False], ids=["with a length", "in chunks"])
def test_a_large_body_is_refused_before_it_is_looked_at(site: FlaskClient, path: str, stated: bool) -> None:
    body = b'{"refresh_token": "' + b"x" * LARGEST + b'"}'
    answer = site.post(path, content_type="application/json", input_stream=io.BytesIO(body),
                       content_length=len(body) if stated else None,
                       environ_overrides={} if stated else {"wsgi.input_terminated": True})

    assert answer.status_code == 413
    assert str(LARGEST) in answer.get_json()["detail"]
