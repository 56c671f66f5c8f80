"""The Huey peer's gateway: Flask and a task call. No accounts, no validation."""

import uuid
from typing import Any

from flask import Flask, request
from tasks import run, store

app = Flask(__name__)


@app.post("/jobs")
def submit() -> tuple[dict[str, Any], int]:
    """Queue a job."""
    job_id = str(uuid.uuid4())
    run(job_id, request.get_json()["prompt"])
    return {"id": job_id}, 202


@app.get("/jobs/<job_id>")
def read(job_id: str) -> dict[str, Any]:
    """Tell how a job stands."""
    result = store.hget("results", job_id)
    state = "success" if result is not None else store.hget("states", job_id) or "pending"
    return {"id": job_id, "state": state, "result": result}
