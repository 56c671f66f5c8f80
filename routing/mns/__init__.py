"""A kombu transport for Alibaba Cloud MNS (sold today as SMQ), on the official SDK; nothing in it knows of Tandem.

    from routing.mns import install
    install()                                           # once, before the first connection: registers mns:// and mnss://
    app = Celery(broker="mns://123456.mns.cn-hangzhou.aliyuncs.com")
"""

from kombu.transport import TRANSPORT_ALIASES


def install() -> None:
    """Make kombu, and with it Celery, know the schemes `mns` (HTTP) and `mnss` (HTTPS). May be called again."""
    TRANSPORT_ALIASES.update({"mns": "routing.mns.transport:Transport", "mnss": "routing.mns.transport:SecureTransport"})
