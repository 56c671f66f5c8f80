"""`python -m ops.mns_server`: the local MNS server as a process, until SIGTERM or Ctrl-C.

The access keys are those of `--keys`, else of the environment (ALIBABA_CLOUD_ACCESS_KEY_ID, ..._SECRET and, for a temporary
one, ALIBABA_CLOUD_SECURITY_TOKEN). When all listens, one line of JSON on standard output says where.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from ops.mns_server.keys import BadKeys, Key, keys_of, load
from ops.mns_server.local import ACCOUNT, LocalMns
from ops.mns_server.store import StoreUnusable

_PREFIX = "ALIBABA_CLOUD_"


def main() -> int:
    """Run the command line."""
    chosen = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        keys = load(chosen.keys) if chosen.keys else _keys_from(os.environ)
        mns = LocalMns(keys, host=chosen.host, port=chosen.port, admin_port=chosen.admin_port, data=chosen.data,
                       objects_port=chosen.objects_port, account=chosen.account, counters=chosen.counters, seed=chosen.seed,
                       retention_s=chosen.retention * 86400.0)
    except (BadKeys, StoreUnusable, OSError) as exc:
        print(f"refusing to start: {exc}", file=sys.stderr)
        return 1
    try:
        print(json.dumps({"url": mns.url, "admin_port": mns.admin_port, "objects_port": mns.objects_port}), flush=True)
        ended.wait()
    finally:
        mns.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.mns_server",
                                     description="A local server of the queue API of Alibaba Cloud MNS (SMQ).")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: loopback only)")
    parser.add_argument("--port", type=int, required=True, help="of the queue API; 0: a free one")
    parser.add_argument("--admin-port", type=int, default=0, help="of audit, faults and dead letters; 0: a free one")
    parser.add_argument("--objects-port", type=int, help="of an object store beside it; 0: a free one; not given: none")
    parser.add_argument("--data", type=Path, help="SQLite file that keeps the messages; not given: in memory. "
                                                  "Objects lie beside it")
    parser.add_argument("--keys", type=Path, help="JSON file with access_key_id and access_key_secret, or a list of such")
    parser.add_argument("--account", default=ACCOUNT, help="the account's number")
    parser.add_argument("--counters", choices=("zero", "real"), default="zero",
                        help="what a queue's counts of messages read; the real service's will soon be 0")
    parser.add_argument("--retention", type=int, default=8, metavar="DAYS",
                        help="after which objects are dropped, as by a bucket's lifecycle rule (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' dice")
    return parser


def _keys_from(environ: Mapping[str, str]) -> list[Key]:
    names = {"access_key_id": "ACCESS_KEY_ID", "access_key_secret": "ACCESS_KEY_SECRET", "security_token": "SECURITY_TOKEN"}
    found = {field: environ[_PREFIX + name] for field, name in names.items() if environ.get(_PREFIX + name)}
    if not found:
        raise BadKeys(f"no access keys; name their file with --keys, or set {_PREFIX}ACCESS_KEY_ID and "
                      f"{_PREFIX}ACCESS_KEY_SECRET")
    return keys_of(found)


if __name__ == "__main__":
    sys.exit(main())
