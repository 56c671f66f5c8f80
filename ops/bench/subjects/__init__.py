"""The subjects by name. A new one is a file here and a line below."""

from ops.bench.subjects.dramatiq import Dramatiq
from ops.bench.subjects.engine import Engine
from ops.bench.subjects.huey import Huey
from ops.bench.subjects.job_server import JobServer
from ops.bench.subjects.plain import Plain
from ops.bench.subjects.service import Service
from ops.bench.subjects.subject import Subject
from ops.bench.subjects.tandem import Tandem
from ops.bench.subjects.transformers import Continuous, OneByOne, Static
from ops.bench.subjects.writer import Writer

__all__ = ["SUBJECTS", "JobServer", "Subject", "Writer"]

SUBJECTS: dict[str, type[Subject]] = {subject.name: subject for subject in (
    Tandem, Plain, Dramatiq, Huey, Engine, Service, OneByOne, Continuous, Static)}
