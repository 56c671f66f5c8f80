"""What a job is and where it is written: settings, topology, errors, the job, the ledger, the HTTP gateway.

Everything else in Tandem imports this package; it imports none of them.
"""
