"""The subjects by name. A new one is a file here and a line below."""

from ops.bench.subjects.dramatiq import Dramatiq
from ops.bench.subjects.huey import Huey
from ops.bench.subjects.job_server import JobServer
from ops.bench.subjects.plain import Plain
from ops.bench.subjects.tandem import Tandem

__all__ = ["SUBJECTS", "JobServer"]

SUBJECTS: dict[str, type[JobServer]] = {subject.name: subject for subject in (Tandem, Plain, Dramatiq, Huey)}
