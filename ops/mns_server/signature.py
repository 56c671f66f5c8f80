"""Version 2 of the service's signatures (HMAC-SHA1), written from its documentation and not from the SDK.

    Authorization: MNS <AccessKeyId>:<base64(hmac-sha1(AccessKeySecret, string to sign))>

    string to sign =  METHOD \\n Content-MD5 \\n Content-Type \\n Date \\n  headers  resource
    headers        =  each header whose lower-case name begins with x-mns-, sorted, as "name:value\\n"
    resource       =  the request's target as it was sent, query included: neither decoded nor sorted
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from ops.mns_server.errors import Refused

_SCHEME = "MNS "


def string_to_sign(method: str, target: str, headers: Mapping[str, str]) -> str:
    """Return what is signed. The headers' names are in lower case."""
    own = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-mns-"))
    plain = (method, *(headers.get(name, "") for name in ("content-md5", "content-type", "date")))
    return "\n".join(plain) + "\n" + own + target


def sign(secret: str, text: str) -> str:
    """Return the signature of the text, in base64."""
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha1)).decode()


def is_signed(secret: str, signature: str, text: str) -> bool:
    """Return whether the signature is the text's; takes the same time whatever the difference."""
    return hmac.compare_digest(sign(secret, text).encode(), signature.encode())


def split_authorization(header: str) -> tuple[str, str]:
    """Return the access key's id and the signature. Raises `Refused` (InvalidAuthorizationHeader)."""
    key_id, colon, signature = header.removeprefix(_SCHEME).strip().partition(":")
    if not header.startswith(_SCHEME) or not (key_id and colon and signature):
        raise Refused("InvalidAuthorizationHeader",
                      "The Authorization header should be as MNS AccessKeyId:Signature.")
    return key_id, signature


def content_md5(body: bytes) -> str:
    """Return the header Content-MD5 of a body: base64 of the *hex text* of its MD5, as the service has it."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).hexdigest().encode()).decode()
