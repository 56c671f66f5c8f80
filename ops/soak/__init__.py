"""`make soak`: load with faults on Tandem and on plain Celery, and then the books: accepted, ended, lost, doubled."""
