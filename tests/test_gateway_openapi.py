"""The OpenAPI document: whole, true to what is served, and every answer as it says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import topology
from app.api import create_app
from app.settings import Settings
from ops.sandbox import Sandbox
from tests.caller import Caller

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OURS = {"get", "put", "post", "delete", "patch"}  # Flask answers HEAD and OPTIONS by itself

KINDS = {"object": dict, "array": list, "string": str, "null": type(None), "number": (int, float), "integer": int,
         "boolean": bool}

SPECIMENS = {
    "queued": {"service": "model", "input": {"prompt": "[stall 100ms] hello"}, "lane": "batch"},
    "succeeded": {"service": "model", "input": {"prompt": "hello"}},
    "failed": {"service": "model", "input": {"prompt": "[error permanent]"}},
    "expired": {"service": "model", "input": {"prompt": "hello"}, "deadline_s": 1e-9},
    "cached": {"service": "cache", "input": {"operation": "get", "key": "k"}},
    "read": {"service": "queue", "input": {"operation": "read", "topic": "t"}},
    "told": {"service": "chat", "input": {"conversation": "c", "message": "hello"}}}


@pytest.fixture(scope="module")
def document(stack: Sandbox) -> dict[str, Any]:
    """The document as the gateway serves it to anyone."""
    with Caller(stack.report()["entry"]) as nobody:
        answer = nobody.call("GET", "/openapi.json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield path, method, operation


def walk(part: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from walk(inner)


def resolve(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def faults(document: dict[str, Any], schema: dict[str, Any], value: Any, at: str = "$") -> list[str]:
    """Say where a value is not what a schema asks for, as far as our answers' schemas ask."""
    unknown = set(schema) - {"$ref", "anyOf", "type", "enum", "properties", "additionalProperties", "items", "required",
                             "title", "description", "default"}
    assert not unknown, f"teach this test the keywords {unknown}"
    if "$ref" in schema:
        return faults(document, resolve(document, schema["$ref"]), value, at)
    if "anyOf" in schema:
        tried = [faults(document, option, value, at) for option in schema["anyOf"]]
        return [] if [] in tried else [fault for option in tried for fault in option]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at} is {value!r}, not one of {schema['enum']}"]
    if "type" in schema and (not isinstance(value, KINDS[schema["type"]])
                             or isinstance(value, bool) != (schema["type"] == "boolean")):
        return [f"{at} is {value!r}, not of type {schema['type']}"]
    if isinstance(value, list) and "items" in schema:
        return [fault for index, each in enumerate(value)
                for fault in faults(document, schema["items"], each, f"{at}[{index}]")]
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        return [fault for name, each in value.items()
                for fault in faults(document, schema["additionalProperties"], each, f"{at}.{name}")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    found = [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    found += [f"{at}.{name} is in no schema" for name in value if name not in schema["properties"]]
    return found + [fault for name, inner in schema["properties"].items() if name in value
                    for fault in faults(document, inner, value[name], f"{at}.{name}")]


def told(document: dict[str, Any], path: str, method: str, status: int, kind: str) -> dict[str, Any]:
    """The schema for an answer, as the document has it."""
    return dict(document["paths"][path][method]["responses"][str(status)]["content"][kind]["schema"])


# -- the document by itself


def test_the_document_is_openapi_3_1_with_a_title_and_a_version(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] == "Tandem"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", document["info"]["version"])


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    references = {part["$ref"] for part in walk(document) if isinstance(part.get("$ref"), str)}

    for reference in references:
        assert isinstance(resolve(document, reference), dict)
    assert {f"#/components/{kind}/{name}" for kind in ("schemas", "headers")
            for name in document["components"][kind]} == references


def test_every_answer_documents_the_headers_that_go_with_it(document: dict[str, Any]) -> None:
    asked = {"401": {"WWW-Authenticate"}, "429": {"Retry-After"}, "503": {"Retry-After"}, "304": {"ETag"}}
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            assert {"X-Request-Id", *asked.get(status, ())} <= set(response["headers"]), f"{method} {path} {status}"


def test_every_route_with_a_body_documents_what_bodies_can_be_refused_for(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if "requestBody" in operation:
            assert {"400", "408", "413", "415"} <= set(operation["responses"]), f"{method} {path}"


def test_every_operation_has_a_name_of_its_own_a_summary_and_the_parameters_of_its_path(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(set(ids)) == len(ids)
    for path, method, operation in operations(document):
        assert operation["summary"]
        inside = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert inside == set(re.findall(r"{(\w+)}", path)), f"{method} {path}"
        assert all(each["required"] for each in operation.get("parameters", ()) if each["in"] == "path")
        assert any(status.startswith("2") for status in operation["responses"])
        assert all(response["description"] for response in operation["responses"].values())
        assert operation.get("security") == [] or "401" in operation["responses"]


def test_what_is_documented_is_what_is_served(document: dict[str, Any], tmp_path: Path) -> None:
    _, plan = topology.load({})
    app = create_app(Settings(redis_url="redis://127.0.0.1:1", data_dir=tmp_path), plan)

    served = {(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
              for rule in app.url_map.iter_rules() for method in rule.methods or ()}

    assert {(path, method) for path, method, _ in operations(document)} == {
        (path, method) for path, method in served if method in OURS}


# -- the answers


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_a_job_is_told_as_documented_from_submit_to_end(
        caller: Caller, document: dict[str, Any], specimen: str) -> None:
    accepted = caller.call("POST", "/v1/jobs", json=SPECIMENS[specimen])
    job_id = accepted.json()["id"]
    read = caller.call("GET", f"/v1/jobs/{job_id}")
    caller.ended(job_id)
    cancelled = caller.call("DELETE", f"/v1/jobs/{job_id}")

    for answer, path, method in ((accepted, "/v1/jobs", "post"), (read, "/v1/jobs/{job_id}", "get"),
                                 (cancelled, "/v1/jobs/{job_id}", "delete")):
        schema = told(document, path, method, answer.status_code, "application/json")
        assert faults(document, schema, answer.json()) == []


def test_a_running_and_a_cancelled_job_are_told_as_documented(caller: Caller, document: dict[str, Any]) -> None:
    job = caller.submit("[stall 300s]")
    try:
        running = caller.reaches(job["id"], "running")
    finally:
        cancelled = caller.call("POST", f"/v1/jobs/{job['id']}/cancel")

    schema = told(document, "/v1/jobs/{job_id}/cancel", "post", cancelled.status_code, "application/json")
    assert faults(document, schema, running) == faults(document, schema, cancelled.json()) == []
    assert (running["state"], cancelled.json()["state"]) == ("running", "cancelled")


@pytest.mark.parametrize(("method", "path", "concrete", "options"), [
    ("post", "/v1/jobs", "/v1/jobs", {"json": {}}),
    ("post", "/v1/jobs", "/v1/jobs", {"json": {"service": "auth", "input": {}}}),
    ("post", "/v1/jobs", "/v1/jobs", {"data": b"{", "headers": {"Content-Type": "application/json"}}),
    ("post", "/v1/jobs", "/v1/jobs", {"data": b"{}"}),
    ("post", "/v1/jobs", "/v1/jobs", {"data": b" " * 2_000_000, "headers": {"Content-Type": "application/json"}}),
    ("post", "/v1/jobs", "/v1/jobs", {"json": {}, "headers": {"Authorization": "Bearer x"}}),
    ("get", "/v1/jobs/{job_id}", "/v1/jobs/1", {}),
    ("get", "/v1/jobs/{job_id}", "/v1/jobs/01990000-0000-7000-8000-000000000000", {"params": {"wait": "x"}}),
    ("get", "/v1/jobs/{job_id}/events", "/v1/jobs/1/events", {}),
    ("get", "/v1/jobs/{job_id}/events", "/v1/jobs/01990000-0000-7000-8000-000000000000/events?starting_after=x", {}),
    ("delete", "/v1/jobs/{job_id}", "/v1/jobs/1", {}),
    ("post", "/v1/jobs/{job_id}/cancel", "/v1/jobs/1/cancel", {}),
    ("post", "/v1/auth/login", "/v1/auth/login", {"json": {}}),
    ("post", "/v1/auth/login", "/v1/auth/login", {"json": {"username": "nobody", "password": "nothing"}}),
    ("get", "/v1/status", "/v1/status", {"headers": {"Authorization": ""}})], ids=range(15))
def test_a_refusal_is_documented_and_told_as_documented(
        caller: Caller, document: dict[str, Any], method: str, path: str, concrete: str, options: dict[str, Any]) -> None:
    answer = caller.call(method.upper(), concrete, **options)

    assert answer.status_code >= 400
    schema = told(document, path, method, answer.status_code, "application/problem+json")
    assert faults(document, schema, answer.json()) == []


def test_a_login_and_health_are_told_as_documented(caller: Caller, document: dict[str, Any], stack: Sandbox) -> None:
    account = stack.report()["account"]
    for method, path, options in (
            ("post", "/v1/auth/login", {"json": account}), ("get", "/healthz", {}), ("get", "/readyz", {}),
            ("get", "/v1/status", {}), ("get", "/v1/jobs", {}), ("get", "/v1/jobs?ids=1", {})):
        answer = caller.call(method.upper(), path, **options)
        assert answer.status_code == 200
        schema = told(document, path.partition("?")[0], method, 200, "application/json")
        assert faults(document, schema, answer.json()) == []
