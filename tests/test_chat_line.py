"""The jobs of a conversation stand in one line, however they are submitted."""

import redis

from app.ledger import Claim, Ledger, Place, new_owner
from app.settings import Settings
from tests.gateway import Gateway

PLACE = Place(worker="w", server="server-1", processor="cpu")


def asked(gateway: Gateway, conversation: str) -> str:
    body = {"service": "chat", "input": {"conversation": conversation, "message": "well?"}}
    answer = gateway.call("POST", "/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.get_json()["id"])


def test_a_second_turn_waits_for_the_first_and_other_conversations_do_not(
        client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    gateway = Gateway(settings, client)
    stranger = gateway.another("stranger")
    first, second, elsewhere = asked(gateway, "c"), asked(gateway, "c"), asked(gateway, "d")
    namesake = asked(stranger, "c")

    claims = [ledger.claim(job, PLACE, owner=new_owner()) for job in (first, second, elsewhere, namesake)]
    ledger.cancel(first)

    assert [isinstance(claim, Claim) for claim in claims] == [True, False, True, True]
    assert isinstance(ledger.claim(second, PLACE, owner=new_owner()), Claim)
