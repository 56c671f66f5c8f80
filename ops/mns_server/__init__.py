"""A local server of the queue API of Alibaba Cloud MNS (now SMQ): the default where there is no account, and for tests.

    python -m ops.mns_server --port 18080 --admin-port 18081 --data mns.sqlite --keys keys.json

It speaks the service's protocol to any client that does: signatures, errors, limits, long polling, visibility, delays,
dead letters. It was written from the documentation and from observation of the service, and shares no code with the SDK
or with Tandem's transport. Topics it has none.

What it adds is on a port of its own: an audit that balances, faults on purpose, dead letters (which the real service's
data plane cannot set either). What could not be found out about the service is marked [assumption] where it matters.
"""

from ops.mns_server.clock import HandClock
from ops.mns_server.faults import Fault
from ops.mns_server.local import LocalMns

__all__ = ["Fault", "HandClock", "LocalMns"]
