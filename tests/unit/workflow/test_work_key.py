"""What decides whether work is new."""

from __future__ import annotations

from pathlib import Path

from pipeline.workflow.work_key import local_files
from tests.helpers.versions import STRAYS


# Seen failing with: every file below a directory that the config names hashed, so that looking at it is new work.
def test_a_stray_file_in_a_directory_that_the_config_names_is_no_new_work(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}")
    before = local_files({"dataset": str(folder)})
    for name in STRAYS:
        (folder / name).write_bytes(b"x")
    assert local_files({"dataset": str(folder)}) == before
    (folder / "b.jsonl").write_text("{}")
    assert local_files({"dataset": str(folder)}) != before
