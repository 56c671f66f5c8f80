"""The long-running processes: the Celery app, the tasks of the five services, and the inference engine."""
