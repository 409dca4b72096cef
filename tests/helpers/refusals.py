"""The message of an error that a user can mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


def refusal(kind: type[Exception], call: Callable[..., object], *args: object, **options: object) -> str:
    """The one line that ``call`` ends with, an error of ``kind``."""
    with pytest.raises(kind) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@contextmanager
def well_or_one_line(kind: type[Exception]) -> Iterator[None]:
    """A block that ends well, or with an error of ``kind`` in one line."""
    message = ""
    try:
        yield
    except kind as err:
        message = str(err)
    assert "\n" not in message
