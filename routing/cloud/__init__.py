"""Work sent to the cloud and brought home: what goes out, what comes back, and who out there does it."""
