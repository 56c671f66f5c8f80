"""Pages for people, and what they are made of: the files of `static/` named here, read once, and nothing else.

They load nothing from anywhere else, and say so to the browser (Content-Security-Policy).
"""

import functools
import importlib.resources
from dataclasses import dataclass

from flask import Blueprint, Response

from app.api import bodies
from app.api.etag import etag, is_held
from app.errors import NotFound

blueprint = Blueprint("pages", __name__)

#: RapiDoc writes style attributes into its shadow tree, hence 'unsafe-inline' for styles; scripts come from files only.
_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
           "font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")

#: Our own pages need less. What a model or a caller says cannot become markup, even by a mistake of ours: the browser
#: refuses.
STRICT = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
           "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
           "require-trusted-types-for 'script'; trusted-types 'none'")

_SECURE = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))
_KINDS = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
          "svg": "image/svg+xml", "txt": "text/plain; charset=utf-8"}
_REVALIDATED = "no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"  # of files whose name tells their version

#: The files that are served under /static/, and how long a browser may keep them unasked.
FILES = {
    "chat.css": _REVALIDATED,
    "chat.js": _REVALIDATED,
    "chat-answer.js": _REVALIDATED,
    "chat-api.js": _REVALIDATED,
    "chat-ask.js": _REVALIDATED,
    "chat-composer.js": _REVALIDATED,
    "chat-dom.js": _REVALIDATED,
    "chat-door.js": _REVALIDATED,
    "chat-drawer.js": _REVALIDATED,
    "chat-icon.svg": _REVALIDATED,
    "chat-list.js": _REVALIDATED,
    "chat-markdown.js": _REVALIDATED,
    "chat-question.js": _REVALIDATED,
    "chat-scroll.js": _REVALIDATED,
    "chat-session.js": _REVALIDATED,
    "chat-speech.js": _REVALIDATED,
    "chat-stream.js": _REVALIDATED,
    "chat-talk.js": _REVALIDATED,
    "chat-turns.css": _REVALIDATED,
    "console.css": _REVALIDATED,
    "console.js": _REVALIDATED,
    "console-bars.js": _REVALIDATED,
    "console-morph.js": _REVALIDATED,
    "console-parts.js": _REVALIDATED,
    "console-words.js": _REVALIDATED,
    "docs.css": _REVALIDATED,
    "docs.js": _REVALIDATED,
    "rapidoc-9.3.8.min.js": _FOR_EVER,
    "rapidoc-9.3.8.LICENSE.txt": _FOR_EVER,
}


@dataclass(frozen=True, slots=True)
class _File:
    text: bytes
    tag: str


@blueprint.get("/")
def chat() -> Response:
    """Show the page to talk with the model."""
    return page("index.html", STRICT)


@blueprint.get("/docs")
def docs() -> Response:
    """Show the OpenAPI document to people."""
    return page("docs.html")


@blueprint.get("/static/<name>")
def static(name: str) -> Response:
    """Return a file that a page is made of. Raises `NotFound`."""
    if name not in FILES:
        raise NotFound(f"there is no file '{name[:60]}'")
    return _served(name, FILES[name])


def page(name: str, policy: str = _POLICY) -> Response:
    """Return a page of `static/`, with what it may load."""
    response = _served(name, _REVALIDATED)
    response.headers.add("Content-Security-Policy", policy)
    return response


def _served(name: str, cache: str) -> Response:
    file = _read(name)
    headers = [("ETag", file.tag), ("Cache-Control", cache), *_SECURE]
    if is_held(file.tag):
        return bodies.WholeResponse(status=304, headers=headers)
    kind = _KINDS[name.rpartition(".")[2]]
    return bodies.WholeResponse([file.text], 200, [
        ("Content-Type", kind), ("Content-Length", str(len(file.text))), *headers])


@functools.cache
def _read(name: str) -> _File:
    text = (importlib.resources.files("app.api") / "static" / name).read_bytes()
    return _File(text, etag(text))
