"""The gateway about itself, for the OpenAPI document."""

import msgspec

from app.api.openapi import parts
from app.api.openapi.parts import Part


class Alive(msgspec.Struct):
    """Health or readiness."""

    status: str


SERVICE = Part(schemas=(Alive,), paths={
    "/v1/status": {"get": {
        "operationId": "status", "summary": "Servers, workers, pins, queues and books (operators)",
        "responses": {"200": {"description": "The state of the system", "content": {
            "application/json": {"schema": {"type": "object"}}}}, **parts.problems(401, 403, 503)}}},
    "/healthz": {"get": {"operationId": "healthz", "summary": "Is the process alive", "security": [],
                         "responses": {"200": parts.json("Alive", "Alive")}}},
    "/readyz": {"get": {"operationId": "readyz", "summary": "Can jobs be accepted", "security": [],
                        "responses": {"200": parts.json("Alive", "Ready"), **parts.problems(503)}}},
    "/openapi.json": {"get": {"operationId": "openapi", "summary": "This document", "security": [],
                              "responses": {"200": {"description": "OpenAPI 3.1", "content": {
                                  "application/json": {"schema": {"type": "object"}}}}}}},
})
