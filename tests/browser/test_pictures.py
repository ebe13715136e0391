"""The pictures of the documentation can be drawn from any finished run."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from docs.pictures import WIDTH, shots, take
from tests.browser.driver import Serving


@pytest.mark.parametrize("at", [0, 2])
def test_a_picture_is_drawn(browser: object, served: Serving, tmp_path: Path, at: int) -> None:
    path = take(browser, served.address, shots("12", "13")[at], tmp_path)
    with Image.open(path) as image:
        assert image.width in range(500, int(WIDTH * 1.5) + 1)
        assert len(image.convert("RGB").getcolors(1_000_000) or []) > 60, "not an empty page"
