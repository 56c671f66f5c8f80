"""Tells operators of alerts, by webhooks.

The routing task writes events to the stream `alerts` with its decisions; here they are grouped, paced and carried, at least
once, to each hook.
"""

from routing.alerting.courier import AlertCourier

__all__ = ["AlertCourier"]
