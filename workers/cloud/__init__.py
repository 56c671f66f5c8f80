"""The cloud worker: an ordinary Celery worker whose broker is MNS, and whose only way home is the queues there.

    celery <- <prefix>-jobs       errands, run one a thread                          (run)
    stops  <- <prefix>-stops-N    tickets that are void                              (stops, voids)
    courier -> <prefix>-results   what runs say, that they live, and how they end    (speaker, packing, courier, post)

It has no Redis, takes no remote control and keeps no results. Nothing is promised by a run that is not heard of at home:
home fences by ticket and run, and takes a job back of which it hears nothing.
"""
