"""Where the access keys for MNS and OSS come from.

`find` looks, in this order: in the URL's userinfo, at a provider handed in, in a JSON file (`key_file`), in the
environment, and at the metadata server of the ECS instance (`ecs_role`). The first place that has anything decides; if that
is wrong, it is an error and not a reason to look further. Whoever asks the provider for keys before each request, as the
SDKs do, always has fresh ones.
"""

import os
from collections.abc import Mapping
from typing import Any

from routing.mns.ecs_role import METADATA_URL, RoleProvider
from routing.mns.key_file import FileProvider
from routing.mns.keys import (
    Credentials,
    CredentialsExpired,
    CredentialsFileBad,
    CredentialsIncomplete,
    CredentialsUnusable,
    NoCredentials,
    Provider,
    RoleUnavailable,
    fault,
)

__all__ = [
    "METADATA_URL", "Credentials", "CredentialsExpired", "CredentialsFileBad", "CredentialsIncomplete",
    "CredentialsUnusable", "EnvironmentProvider", "FileProvider", "GivenProvider", "NoCredentials", "Provider",
    "RoleProvider", "RoleUnavailable", "StaticProvider", "find",
]

#: The variables of the environment that hold keys; Alibaba's own tools read the same.
ID_VARIABLE = "ALIBABA_CLOUD_ACCESS_KEY_ID"
SECRET_VARIABLE = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"  # noqa: S105 - a name
TOKEN_VARIABLE = "ALIBABA_CLOUD_SECURITY_TOKEN"  # noqa: S105 - a name
#: The variable with the name of the instance's role, which saves a question, and the one that forbids asking at all.
ROLE_VARIABLE = "ALIBABA_CLOUD_ECS_METADATA"
ROLE_OFF_VARIABLE = "ALIBABA_CLOUD_ECS_METADATA_DISABLED"


class StaticProvider:
    """The same keys for ever. Raises CredentialsIncomplete at once if they cannot be keys; `place` is where they were."""

    def __init__(self, access_key_id: str, access_key_secret: str, *, security_token: str | None = None,
                 place: str = "the keys handed over") -> None:
        self._keys = _complete(place, access_key_id, access_key_secret, security_token)

    def __repr__(self) -> str:
        return f"StaticProvider({self._keys!r})"

    def get_credentials(self) -> Credentials:
        """Return the keys."""
        return self._keys


class EnvironmentProvider:
    """The keys in the environment, which is looked at each time."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ

    def __repr__(self) -> str:
        return "EnvironmentProvider()"

    def get_credentials(self) -> Credentials:
        """Return the keys. Raises CredentialsIncomplete."""
        values = [self._environ.get(name) for name in (ID_VARIABLE, SECRET_VARIABLE, TOKEN_VARIABLE)]
        return _complete("the environment", *values, names=(ID_VARIABLE, SECRET_VARIABLE, TOKEN_VARIABLE))


class GivenProvider:
    """Another's provider, for instance of the package alibabacloud_credentials, whose token may be None where the SDK of
    MNS wants an empty one. What it raises is passed on."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def __repr__(self) -> str:
        return f"GivenProvider({type(self._provider).__name__})"

    def get_credentials(self) -> Credentials:
        """Return its keys. Raises CredentialsIncomplete."""
        given = self._provider.get_credentials()
        values = [getattr(given, f"get_{name}")() if hasattr(given, f"get_{name}") else getattr(given, name, None)
                  for name in ("access_key_id", "access_key_secret", "security_token")]
        return _complete(f"the credentials provider {type(self._provider).__name__}", *values)


def find(*, user: str | None = None, password: str | None = None, credentials: Any = None,
         file: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None,
         metadata_url: str = METADATA_URL) -> Provider:
    """Return the provider of the first place that has keys, having asked it once.

    `user` and `password` are the URL's userinfo, decoded; `credentials` anything with `get_credentials()`; `file` the path
    of a JSON file; `environ` stands for the process's environment. Raises CredentialsUnusable: NoCredentials, which lists
    where it looked, CredentialsIncomplete, CredentialsFileBad, CredentialsExpired.
    """
    environ = os.environ if environ is None else environ
    if user or password:
        return StaticProvider(user or "", password or "", place="the URL's userinfo")
    provider: Provider
    if credentials is not None:
        provider = GivenProvider(credentials)
    elif file:
        provider = FileProvider(file)
    elif environ.get(ID_VARIABLE) or environ.get(SECRET_VARIABLE):
        provider = EnvironmentProvider(environ)
    else:
        return _role(environ, metadata_url)
    provider.get_credentials()
    return provider


def _role(environ: Mapping[str, str], metadata_url: str) -> Provider:
    if environ.get(ROLE_OFF_VARIABLE, "").lower() == "true":
        found = f"the ECS instance's role was not asked for, as {ROLE_OFF_VARIABLE} says"
    else:
        provider = RoleProvider(role=environ.get(ROLE_VARIABLE, ""), url=metadata_url)
        try:
            provider.get_credentials()
        except RoleUnavailable as exc:
            found = str(exc)
        else:
            return provider
    raise NoCredentials(f"no access keys found: the URL has no userinfo; no credentials provider and no credentials file "
                        f"is set; {ID_VARIABLE} and {SECRET_VARIABLE} are not in the environment; {found}. Set one of them")


def _complete(place: str, access_key_id: object, access_key_secret: object, security_token: object, *,
              names: tuple[str, str, str] = ("access_key_id", "access_key_secret", "security_token")) -> Credentials:
    values = (access_key_id, access_key_secret, security_token or None)
    needed = values if values[2] is not None else values[:2]
    faults = [found for name, value in zip(names, needed, strict=False) if (found := fault(name, value))]
    if faults:
        raise CredentialsIncomplete(f"{place}: {'; '.join(faults)}")
    return Credentials(str(access_key_id), str(access_key_secret), str(security_token or ""))
