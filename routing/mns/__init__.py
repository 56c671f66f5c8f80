"""A kombu transport for Alibaba Cloud MNS (sold today as SMQ), on the official SDK; nothing in it knows of Tandem.

    from routing.mns import install
    install()                                           # once, before the first connection: registers mns:// and mnss://
    app = Celery(broker="mns://123456.mns.cn-hangzhou.aliyuncs.com")
    app.conf.broker_transport_options = {"visibility_timeout": 120, "store": "oss://bucket/bodies?region=cn-hangzhou"}

What it promises. A message is delivered at least once, in no order, and to nobody else while its consumer holds it: however
long that takes, its lease is made longer until it is acknowledged, given back, or held for `max_lease_seconds`. Trouble of
the network or the service ends no worker. Closing a connection gives back what it holds within `close_within_s`, and sends
no copies. Bodies of any size pass, with a `store` for those over 64 KB. A message that is taken more than `max_receives`
times, or cannot be read, goes to the queue `<queue>-dead` with the reason.

What it leaves to others. Tasks must bear being run twice (`task_acks_late`, and a result that is written once). There is
no broadcast: no remote control of workers and no events between processes (`worker_enable_remote_control=False`). The
counts of messages that the service gives are being withdrawn, so a queue's size may read 0. Exchanges and bindings are
known to the process that declares them only; publish to a queue by its name. Results need a backend elsewhere.

All options: `options.Options`. Errors: `errors`. Keys: `credentials`. Figures for operators: `Transport.figures`.
"""

from kombu.transport import TRANSPORT_ALIASES


def install() -> None:
    """Make kombu, and with it Celery, know the schemes `mns` (HTTP) and `mnss` (HTTPS). May be called again."""
    TRANSPORT_ALIASES.update({"mns": "routing.mns.transport:Transport", "mnss": "routing.mns.transport:SecureTransport"})
