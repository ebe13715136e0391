"""The URL of a study's storage: masking of passwords, and the URL to open.

A password belongs where libpq looks for it, PGPASSWORD or ~/.pgpass. One in the URL works too, in this process; it is
masked in everything that is written or shown, so that a resumed run needs one of the former, or the URL again.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"
_LOGIN = re.compile(r"^(?P<head>[A-Za-z0-9+]+://[^:/?#]*):(?P<password>.*)@(?P<rest>[^@]*)$", re.DOTALL)
_NO_HOST = re.compile(
    r"^(?P<head>[A-Za-z0-9+]+://[^:/?#@]*):(?P<password>[^/?#@]*[^/?#@0-9][^/?#@]*)(?P<rest>.*)$", re.DOTALL
)
"""A login whose @HOST was forgotten; after a host there is a port, a number."""
_SECRET = re.compile(r"(?P<key>[?&][^=&]*(?:password|passwd|secret|token)[^=&]*=)(?P<value>[^&]*)", re.IGNORECASE)
_KINDS = ("sqlite", "postgresql+psycopg", "postgresql")


def storage_fault(url: str) -> str | None:
    """Return why this is no storage, or None. The URL itself is not repeated: it may hold a password."""
    kind, mark, _ = url.partition("://")
    if not mark:
        return "not an address; expected postgresql+psycopg://USER@HOST/DATABASE, or null for a file of the run"
    if kind in _KINDS and _LOGIN.match(url) is None and _NO_HOST.match(url) is not None:
        return "the address has a password and no host; expected postgresql+psycopg://USER@HOST/DATABASE"
    return None if kind in _KINDS else f"{kind}:// is not supported; expected postgresql+psycopg://USER@HOST/DATABASE"


def is_postgresql(url: str) -> bool:
    """Return whether a PostgreSQL server holds the study."""
    return url.startswith("postgresql")


def shown(url: str) -> str:
    """Return the URL for display: passwords are replaced by asterisks."""
    masked = url
    if (found := _LOGIN.match(url)) is not None:
        masked = f"{found['head']}:{MASK}@{found['rest']}"
    elif (found := _NO_HOST.match(url)) is not None:
        masked = f"{found['head']}:{MASK}{found['rest']}"
    return _SECRET.sub(rf"\g<key>{MASK}", masked)


def usable(url: str) -> str:
    """Return the URL to open: a masked password (of a resumed run) is dropped in favour of libpq's own sources."""
    plain = re.sub(r"^postgresql://", "postgresql+psycopg://", url.replace(f":{MASK}@", "@", 1))
    if f"={MASK}" not in plain:
        return plain
    place, _, query = plain.partition("?")
    kept = [part for part in query.split("&") if not part.endswith(f"={MASK}")]
    return "?".join([place, "&".join(kept)]) if kept else place


def scrubbed(text: str, url: str) -> str:
    """Remove the URL's secrets from the text of another library."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _secrets(url: str) -> set[str]:
    found = {match["value"] for match in _SECRET.finditer(url)}
    login = _LOGIN.match(url) or _NO_HOST.match(url)
    if login is not None:
        found.add(login["password"])
    return {form for secret in found if secret and secret != MASK for form in (secret, unquote(secret))}
