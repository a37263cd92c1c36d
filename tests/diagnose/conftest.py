from collections.abc import Iterator

import pytest

from unvanish import i18n


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    i18n.choose("en")
    yield
    i18n.choose("en")
