"""Tests of the home side of the cloud, with a Redis and a local MNS server."""
