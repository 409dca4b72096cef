"""Which renderer a task's texts get on the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError
from pipeline.labelling.session.project import LabellingProject, renderer_of
from pipeline.store.store import Store
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import Experiment


def config(directory: Path, task: str) -> Experiment:
    path = directory / "x.yaml"
    path.write_text(f"name: x\ntask: {task}\ncollect: {{annotator: human}}\ndata_dir: {directory}/data\n")
    return load_config(str(path), [])


@pytest.mark.parametrize(
    ("task", "renderer"),
    [
        ("music", "abc"),
        ("drawing", "shapes"),
        ("reviews", None),
        ("prompts\ntask_args: {dataset: tunes.jsonl, renderer: abc}", "abc"),
    ],
)
def test_a_task_names_its_renderer(tmp_path: Path, task: str, renderer: str | None):
    experiment = config(tmp_path, task)
    assert renderer_of(experiment) == renderer
    assert LabellingProject.of(experiment, Store(experiment.data_dir)).renderer == renderer


def test_an_unknown_renderer_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "my_sculpture"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "task.py").write_text(
        "from pipeline.tasks.reviews import Task as Reviews\n\n\nclass Task(Reviews):\n    renderer = '../x'\n"
    )
    with pytest.raises(ConfigError, match=r'the renderer "\.\./x"\. There are: abc, shapes') as caught:
        renderer_of(config(tmp_path, "my_sculpture.task"))
    assert "\n" not in str(caught.value)
