"""Credentials, for the OpenAPI document."""

from typing import Any

from app.api.auth import JsonWebKey, JsonWebKeys, LoginRequest, RefreshRequest, Tokens
from app.api.openapi import parts
from app.api.openapi.parts import Part


def _operation(name: str, summary: str, body: str, responses: dict[str, Any]) -> dict[str, Any]:
    """A call that needs no credentials but those in its body."""
    return {"post": {"operationId": name, "summary": summary, "security": [], "requestBody": parts.body(body),
                     "responses": responses}}


AUTH = Part(schemas=(LoginRequest, RefreshRequest, Tokens, JsonWebKey, JsonWebKeys), paths={
    "/v1/auth/login": _operation("login", "Exchange a password for tokens", "LoginRequest", {
        "200": parts.json("Tokens", "Logged in"), **parts.problems(400, 401, 413, 415, 422, 429, 503)}),
    "/v1/auth/refresh": _operation("refresh", "Exchange a refresh token for new tokens", "RefreshRequest", {
        "200": parts.json("Tokens", "Refreshed"), **parts.problems(400, 401, 413, 415, 422, 503)}),
    "/v1/auth/logout": _operation("logout", "End a session with all its tokens", "RefreshRequest", {
        "204": {"description": "The session has ended"}, **parts.problems(400, 413, 415, 422, 503)}),
    "/.well-known/jwks.json": {"get": {
        "operationId": "jsonWebKeys", "summary": "The public keys that check access tokens", "security": [],
        "responses": {"200": parts.json("JsonWebKeys", "The keys"), **parts.problems(503)}}},
})
