"""The message of an error that a user can mend."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def refusal(kind: type[Exception], call: Callable[..., object], *args: object, **options: object) -> str:
    """The one line that ``call`` ends with, an error of ``kind``."""
    with pytest.raises(kind) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
