"""``make generated``: write what is made from the code."""

from __future__ import annotations

from tests.generated import trl_keys

trl_keys.write()

from tests.generated import docs_tables, metrics_page, personal_data_page, schema, trl_page  # noqa: E402 - they read what has just been written

docs_tables.write()
metrics_page.write()
personal_data_page.write()
schema.write()
trl_page.write()
