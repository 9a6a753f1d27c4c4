"""A check that lets a known defect pass is worth nothing."""

from collections.abc import Callable

import pytest


def refused(check: Callable[[], object], match: str | None = None) -> None:
    """`check`, made of something defective, fails."""
    with pytest.raises(AssertionError, match=match):
        check()
