"""The plain way's gateway: Flask and `apply_async`, as a tutorial has it. No accounts, no validation."""

from typing import Any

from celery.result import AsyncResult
from flask import Flask, request
from tasks import queue, run

app = Flask(__name__)


@app.post("/jobs")
def submit() -> tuple[dict[str, Any], int]:
    """Queue a job."""
    body = request.get_json()
    return {"id": run.apply_async((body["prompt"], body.get("stall_s", 0))).id}, 202


@app.get("/jobs/<job_id>")
def read(job_id: str) -> dict[str, Any]:
    """Tell how a job stands."""
    job = AsyncResult(job_id, app=queue)
    return {"id": job_id, "state": job.state.lower(), "result": job.result}
