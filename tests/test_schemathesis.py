"""schemathesis over the whole OpenAPI document, against the running gateways: it finds no server error, and no answer that
the document does not have."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.sandbox import Sandbox
from tests.caller import Caller

#: Left out are those that take DELETE for removing (a cancelled job can still be read), and those that take a schema for
#: all that there is to say about good input.
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance", "unsupported_method", "allow_header_conformance", "ensure_resource_availability")

EXAMPLES = 5  # for each route, beside those of the coverage phase, which are as many as the route's parameters ask for
#: One worker, as two trip over CPython 3.11's parser, which Hypothesis reads lambdas with (cpython 106905).
WORKERS = 1
SEED = 20_261_125  # the same requests each time, so that what fails can be run again


def endless(document: dict[str, Any]) -> list[str]:
    """Paths of streams that don't end by themselves, which would hold each request until it times out. A job's stream ends
    with the job. Their refusals are tested in their own tests."""
    return [path for path, item in document["paths"].items() if "{" not in path and
            "text/event-stream" in item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})]


@pytest.mark.timeout(290)
def test_no_request_is_answered_with_what_is_not_documented(stack: Sandbox, stranger: Caller, tmp_path: Path) -> None:
    document = stranger.call("GET", "/openapi.json").json()
    skipped = [option for path in endless(document) for option in ("--exclude-path", path)]

    done = subprocess.run([
        sys.executable, "-m", "schemathesis.cli", "run", f"{stranger.address}/openapi.json",
        "--header", f"Authorization: {stranger.credentials}", "--checks", ",".join(CHECKS),
        "--phases", "coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES), "--seed", str(SEED),
        "--workers", str(WORKERS), "--request-timeout", "40", "--warnings", "off", "--no-color", "--continue-on-failure",
        "--generation-database", "none", *skipped],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    all_of_them = sum(map(len, document["paths"].values())) - 1  # the document itself was read to begin with
    tried = all_of_them - len(skipped) // 2
    assert re.search(rf"Operations:\s+{tried} selected / {all_of_them} total", done.stdout), done.stdout
