"""The console: a page on which operators watch the servers, the routing and the alerts. What it shows it reads with their
credentials from `/v1/status` and the like; the page itself is no secret."""

from flask import Blueprint, Response

from app.api import pages

blueprint = Blueprint("console", __name__)


@blueprint.get("/console")
def console() -> Response:
    """Show the console."""
    return pages.page("console.html", pages.STRICT)
