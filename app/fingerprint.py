"""What makes two requests of the model service the same: a digest of a deterministic request, None for any other.

Deterministic are the greedy ones (temperature 0) and those with a seed. The same model asked the same in the same scope
gives the same fingerprint, however the request was spelled: members in any order, defaults written out or left out, text as
one part or as a string, and parameters that do not bear on the answer. The scope, a tenant or all of them, is part of it.
Pure.
"""

import hashlib

import msgspec

from app.inputs import ModelInput

SHARED = "shared"  # the scope of all tenants; no account has this id

#: What does not bear on the most likely token.
_UNUSED_WHEN_GREEDY = {"temperature": 0.0, "top_p": None, "top_k": None, "min_p": None, "seed": None}


def fingerprint(request: ModelInput, *, scope: str, model: str) -> str | None:
    """Return the fingerprint, 64 hexadecimal digits, of what a model is asked for a scope; None where it may answer
    differently each time."""
    if request.temperature != 0 and request.seed is None:
        return None
    if request.temperature == 0:
        request = msgspec.structs.replace(request, **_UNUSED_WHEN_GREEDY)
    members = {name: msgspec.to_builtins(getattr(request, name)) for name in request.__struct_fields__}
    members["stop"] = sorted(set(request.stop_strings))
    if request.messages is not None:
        members["messages"] = [msgspec.to_builtins(msgspec.structs.replace(
            message, content=message.text if message.content is not None else None)) for message in request.messages]
    whole = msgspec.json.encode([scope, model, members], order="sorted")
    return hashlib.sha256(whole).hexdigest()
