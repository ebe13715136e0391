from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config.storage_url import scrubbed, shown, storage_fault, usable


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://me:hunter2@host/d", "postgresql://me:***@host/d"),
        ("postgresql+psycopg://me:a@b:c@host:5432/d", "postgresql+psycopg://me:***@host:5432/d"),
        ("postgresql://me:hunter2", "postgresql://me:***"),
        ("postgresql://me:hunter2/d", "postgresql://me:***/d"),
        ("postgresql://host:5432/d", "postgresql://host:5432/d"),
        ("postgresql://host/d?password=hunter2&x=1", "postgresql://host/d?password=***&x=1"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
    ],
)
def test_a_password_is_masked(url: str, seen: str) -> None:
    assert shown(url) == seen
    if "hunter2" in url:
        assert "hunter2" not in scrubbed(f"cannot open {url}: hunter2", url)
    assert "hunter2" not in (storage_fault(url) or "")


def test_a_login_without_a_host_is_refused() -> None:
    assert "no host" in (storage_fault("postgresql://me:hunter2") or "")
    assert storage_fault("postgresql://me@host/d") is None is storage_fault("postgresql://host:5432/d")


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.sampled_from(["@h/d", "", "/d"]))
def test_no_password_of_letters_is_shown(secret: str, rest: str) -> None:
    secret = f"x{secret}X"
    assert secret not in shown(f"postgresql://me:{secret}{rest}").removeprefix("postgresql://me:***")
    assert f":{secret}" not in shown(f"postgresql://me:{secret}{rest}")


def test_a_masked_password_is_not_used() -> None:
    assert usable("postgresql://me:***@host/d") == "postgresql+psycopg://me@host/d"
