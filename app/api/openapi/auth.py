"""Credentials, for the OpenAPI document."""

from app.api.auth import LoginRequest, LoginResponse
from app.api.openapi import parts
from app.api.openapi.parts import Part

AUTH = Part(schemas=(LoginRequest, LoginResponse), paths={
    "/v1/auth/login": {"post": {
        "operationId": "login", "summary": "Exchange a password for an access token", "security": [],
        "requestBody": parts.body("LoginRequest"),
        "responses": {"200": parts.json("LoginResponse", "Logged in"), **parts.problems(400, 401, 413, 415, 422, 503)}}},
})
