"""What libraries print, from C, from Python and from what they start, is kept and can be quoted."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from objectives.runtimes.native_output import native_output


def test_nothing_is_printed_and_all_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with native_output() as said:
        os.write(1, b"from C\n")
        os.write(2, b"an error of C\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        print("from Python")
        logging.getLogger("converter").warning("a warning")
    for line in ("from C", "an error of C", "from a child", "from Python"):
        assert line in said.text
    assert said.last_lines(1) == "from a child" and "a warning" not in said.text
    os.write(1, b"after\n")
    captured = capfd.readouterr()
    assert captured.out == "after\n" and captured.err == ""


def test_it_ends_with_an_error_too(capfd: pytest.CaptureFixture[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="stopped"), native_output() as said:
        os.write(1, "\n  the reason \xff\n".encode("latin-1"))
        raise ValueError("stopped")
    assert said.last_lines() == "the reason \ufffd" and len(os.listdir("/proc/self/fd")) == before
    print("after")
    assert capfd.readouterr().out == "after\n"


def test_one_within_another_keeps_its_own() -> None:
    with native_output() as outer:
        with native_output() as inner:
            os.write(1, b"inner\n")
        os.write(1, b"outer\n")
    assert (inner.text, outer.text) == ("inner\n", "outer\n")
