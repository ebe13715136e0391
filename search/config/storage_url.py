"""The address of a study's storage: what may be shown of it, and what opens it.

A password belongs where libpq looks for it, PGPASSWORD or ~/.pgpass. One in the address works too, in this process; it
is masked in everything that is written or shown, so that a resumed run needs one of the former, or the address again.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"
_LOGIN = re.compile(r"^(?P<head>[A-Za-z0-9+]+://[^:/?#]*):(?P<password>.*)@(?P<rest>[^@]*)$", re.DOTALL)
_SECRET = re.compile(r"(?P<key>[?&][^=&]*(?:password|passwd|secret|token)[^=&]*=)(?P<value>[^&]*)", re.IGNORECASE)
_KINDS = ("sqlite", "postgresql+psycopg", "postgresql")


def storage_fault(url: str) -> str | None:
    """Why this is no storage; None where it is one. The address itself is not repeated: it may hold a password."""
    kind, mark, _ = url.partition("://")
    if not mark:
        return "not an address; expected postgresql+psycopg://USER@HOST/DATABASE, or null for a file of the run"
    return None if kind in _KINDS else f"{kind}:// is not supported; expected postgresql+psycopg://USER@HOST/DATABASE"


def is_postgresql(url: str) -> bool:
    """Whether a server keeps the study."""
    return url.startswith("postgresql")


def shown(url: str) -> str:
    """The address as it may be written and shown: passwords are stars."""
    found = _LOGIN.match(url)
    masked = url if found is None else f"{found['head']}:{MASK}@{found['rest']}"
    return _SECRET.sub(rf"\g<key>{MASK}", masked)


def usable(url: str) -> str:
    """The address to open: stars, which are what a resumed run remembers, give way to libpq's own places."""
    plain = re.sub(r"^postgresql://", "postgresql+psycopg://", url.replace(f":{MASK}@", "@", 1))
    if f"={MASK}" not in plain:
        return plain
    place, _, query = plain.partition("?")
    kept = [part for part in query.split("&") if not part.endswith(f"={MASK}")]
    return "?".join([place, "&".join(kept)]) if kept else place


def scrubbed(text: str, url: str) -> str:
    """A foreign library's text without the secrets of the address."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _secrets(url: str) -> set[str]:
    found = {match["value"] for match in _SECRET.finditer(url)}
    login = _LOGIN.match(url)
    if login is not None:
        found.add(login["password"])
    return {form for secret in found if secret and secret != MASK for form in (secret, unquote(secret))}
