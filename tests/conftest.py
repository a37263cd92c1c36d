"""All tests read English, whatever the locale of the machine; those of Chinese choose it."""

from __future__ import annotations

import os

from unvanish import i18n

os.environ["UNVANISH_LANG"] = "en"  # for the processes that tests start
i18n.choose("en")
