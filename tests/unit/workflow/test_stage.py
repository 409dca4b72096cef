"""The graph of stages: keys change with what is learnt from, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, StoreError
from pipeline.store.store import Store
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import STAGES
from pipeline.workflow.graph import GRAPH, External, graph, nothing_to_do
from pipeline.workflow.stage import Planner, Run
from pipeline.workflow.stage_command import stage_main
from pipeline.workflow.work_key import FORMATS, called_modules


def planner(tmp_path: Path, text: str) -> Planner:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ntask: reviews\n" + text)
    return Planner(load_config(path), Store(tmp_path / "data"))


def test_every_input_is_somebodys_output():
    made = [role for node in GRAPH.values() for role in node.outputs]
    assert tuple(GRAPH) == STAGES
    assert len(made) == len(set(made))
    for i, stage in enumerate(STAGES):
        earlier = [role for s in STAGES[:i] for role in GRAPH[s].outputs]
        assert set(GRAPH[stage].inputs) <= set(earlier)


def test_a_missing_input_names_the_command(tmp_path: Path):
    with pytest.raises(StoreError, match="Run: make sft CONFIG="):
        planner(tmp_path, "").run_of("reward")


def test_keys_depend_on_settings_seed_and_local_files(tmp_path: Path):
    data = tmp_path / "texts.jsonl"
    data.write_text("one\n")
    text = f"collect: {{annotator: replay, annotator_args: {{dataset: {data}}}}}\nsft: {{tokenizer: {data}}}\n"
    first = planner(tmp_path, text).run_of("sft").key
    assert planner(tmp_path, text).run_of("sft").key == first
    assert planner(tmp_path, text.replace("sft: {", "sft: {report_to: none, ")).run_of("sft").key == first
    assert planner(tmp_path, text + "ppo: {kl_coef: 1}\n").run_of("sft").key == first
    assert planner(tmp_path, text + "seed: 1\n").run_of("sft").key != first
    assert planner(tmp_path, text.replace("sft: {", "sft: {max_steps: 1, ")).run_of("sft").key != first
    data.write_text("two\n")
    # Mutation caught: a key over the file's name only, so that an edited file is "up to date".
    assert planner(tmp_path, text).run_of("sft").key != first


# The keys that version 0.1.0 of this package gave to this work.
MADE_BY_0_1_0 = {
    "sft": "69cbf439da416145d8a25e5f53bce5d87c307ea9ddbad9ef90abe3059ab43c95",
    "collect": "e1b86ac058405864b02003ca0a6ae5290ee0fdb9307e71e459c2574fca8e9e16",
}


# Seen failing with: the package's version in the key; formats spelled as plain numbers.
@pytest.mark.parametrize("stage", MADE_BY_0_1_0)
def test_work_of_the_last_version_stays_done_until_the_stage_writes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
):
    def key() -> str:
        return (
            planner(tmp_path, "base_model: org/model\nsft: {max_steps: 30}\nseed: 3\n" + inputs).run_of(stage).key
        )

    with Store(tmp_path / "data").draft("b", kind="model", stage="sft") as draft:
        (draft.path / "model.safetensors").write_bytes(b"abc")
    inputs = "collect: {comparisons: 9, inputs: {base: b@v1}}\n"
    monkeypatch.setattr("pipeline.__version__", "9.9")
    assert key() == MADE_BY_0_1_0[stage]
    monkeypatch.setitem(FORMATS, "report", 2)
    assert key() == MADE_BY_0_1_0[stage]
    monkeypatch.setitem(FORMATS, stage, 2)
    assert key() != MADE_BY_0_1_0[stage]


def test_an_external_base_is_known_by_its_weights(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    first = External(str(tmp_path), None).id
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    assert External(str(tmp_path), None).id != first
    assert External("org/name", "v1").id != External("org/name", "v2").id


def test_a_base_may_be_a_version(tmp_path: Path):
    store = Store(tmp_path / "data")
    with store.draft("small", kind="model", stage="sft") as draft:
        (draft.path / "model.safetensors").write_bytes(b"abc")
    plan = planner(tmp_path, "base_model: small@v1\n").run_of("collect")
    assert plan.version("base").ref == "small@v000001"
    assert plan.base == (str(draft.version.path), None)


def scored_by(tmp_path: Path, reward: str, *, more: str = "") -> Planner:
    """An experiment whose ``ppo`` and ``evaluate`` read versions that are there, so that they can be planned."""
    store = Store(tmp_path / "data")
    for name in ("b", "p", "r", "pi"):
        if name not in store.names():
            with store.draft(name, kind="model", stage="sft") as draft:
                (draft.path / "model.safetensors").write_bytes(name.encode())
    ppo = f"ppo: {{reward: {reward}, inputs: {{base: b@v1, prompts: p@v1}}}}\n"
    return planner(tmp_path, ppo + "evaluate: {inputs: {base: b@v1, prompts: p@v1, policy: pi@v1}}\n" + more)


# Seen failing with: GRAPH itself, whatever the config says.
@pytest.mark.parametrize(
    ("reward", "own"),
    [
        ("null", True),
        ("adapter", True),
        ("{adapter: own}", True),
        ("[adapter, {function: 'm:f', weight: 0.5}]", True),
        ("'m:f'", False),
        ("org/model", False),
        ("[{model: r@v1}, 'm:f']", False),
    ],
)
def test_the_graph_has_a_reward_model_where_the_policy_is_scored_by_it(tmp_path: Path, reward: str, own: bool):
    config = scored_by(tmp_path, reward).config
    nodes = graph(config)
    assert [s for s in STAGES if "reward" in nodes[s].inputs] == (["ppo", "evaluate", "report"] if own else [])
    assert list(nodes["collect"].outputs) == (list(GRAPH["collect"].outputs) if own else ["prompts"])
    assert ("preferences" in nodes["report"].inputs) == own
    assert (nothing_to_do(config, "reward") is None) == own
    assert nothing_to_do(config, "ppo") is None


def test_preferences_are_collected_where_the_section_names_an_annotator(tmp_path: Path):
    assert list(
        graph(scored_by(tmp_path, "'m:f'", more="collect: {comparisons: 9}\n").config)["collect"].outputs
    ) == ["prompts"]
    config = scored_by(tmp_path, "'m:f'", more="collect: {annotator: oracle}\n").config
    assert list(graph(config)["collect"].outputs) == ["prompts", "comparisons", "preferences"]


def test_a_reward_that_is_none_is_refused_by_every_stage(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"x\.yaml: ppo\.reward is an empty list"):
        scored_by(tmp_path, "[]").run_of("sft")


def test_a_stage_without_work_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = scored_by(tmp_path, "['m:f', org/model]").config.path
    assert stage_main("reward", lambda _: pytest.fail("ran"), ["--config", str(path)]) == 0
    between = ["reward.logging_steps=10", "--config", str(path), "ppo.kl_coef=0.2"]  # options between overrides
    assert stage_main("reward", lambda _: pytest.fail("ran"), between) == 0
    assert capsys.readouterr().out == 2 * "[reward] nothing to do: ppo.reward is m:f, org/model\n"


# Seen failing with: the key without their files; modules found by importing them.
def test_editing_a_reward_function_is_new_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    package = tmp_path / "mine" / "deep"
    package.mkdir(parents=True)
    for name in ("alone.py", "mine/__init__.py", "mine/deep/__init__.py", "mine/deep/other.py"):
        (tmp_path / name).write_text("raise SystemExit('was imported')")

    def key(stage: str, reward: str) -> str:
        return scored_by(tmp_path, f"'{reward}'").run_of(stage).key

    for reward in ("alone:f", "mine.deep.other:f", "mine:f"):
        edited = tmp_path / ("alone.py" if reward == "alone:f" else "mine/deep/other.py")
        for stage in ("ppo", "evaluate", "sft"):
            before = key(stage, reward)
            edited.write_text(edited.read_text() + "# edited\n")
            # The base is none of the reward's business.
            assert (key(stage, reward) != before) == (stage != "sft")
    assert "mine" not in sys.modules


# Seen failing with: the key without the task's module, without the annotator's; the report's with the task's.
def test_editing_a_task_or_an_annotator_of_ones_own_is_new_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    (tmp_path / "ours").mkdir()
    task, judge = tmp_path / "ours" / "walks.py", tmp_path / "ours" / "judge.py"
    helper = tmp_path / "ours" / "graphs.py"
    helper.write_text("SIZE = 20\n")
    for path, module in ((task, "tasks.random_walks"), (judge, "annotators.oracle")):
        path.write_text(f"from pipeline.{module} import *\n")
    task.write_text(task.read_text() + "from ours.graphs import SIZE\n")
    own = "collect: {annotator: ours.judge, inputs: {base: b@v1}}\n"

    def planned(more: str = own) -> Planner:
        plan = scored_by(tmp_path, "'m:f'", more=more)
        return Planner(load_config(plan.config.path, ["task=ours.walks"]), plan.store)

    def keys() -> dict[str, str]:
        run = planned().run_of
        return {stage: run(stage).key for stage in ("sft", "collect", "ppo", "evaluate")}

    all_that_call = {"sft", "collect", "ppo", "evaluate"}
    for edited, stages in ((task, all_that_call), (judge, {"collect"}), (helper, all_that_call)):
        before = keys()
        edited.write_text(edited.read_text() + "# edited\n")
        assert {stage for stage, key in keys().items() if key != before[stage]} == stages
    assert called_modules(planned().config, "report") == []
    converts = planned(f"{own}base_model: org/model\n").config
    assert called_modules(converts, "sft") == [], "a model that is only converted has nothing of the task"


# Seen failing with: learning_part without ppo.reward; a model known by its name only.
def test_keys_depend_on_where_scores_come_from(tmp_path: Path):
    spread = "reward_combine: mean_minus_std, reward_std_coef: 2.0"
    for stage in ("ppo", "evaluate"):
        keys = [
            scored_by(tmp_path, r).run_of(stage).key for r in ("'m:f'", "'m:g'", "r@v1", "r@latest", "[r@v1, b]")
        ]
        assert len(set(keys)) == 5
    for combine in ("reward_combine: min", "reward_combine: mean_minus_std", spread):
        keys.append(scored_by(tmp_path, f"[r@v1, b], {combine}").run_of("evaluate").key)
    assert len(set(keys)) == 8
    before = scored_by(tmp_path, "r@latest").run_of("evaluate")
    assert before.version("reward_1").ref == "r@v000001"
    with before.store.draft("r", kind="adapter", stage="reward") as draft:
        (draft.path / "adapter_model.safetensors").write_bytes(b"another")
    after = scored_by(tmp_path, "r@latest").run_of("evaluate")
    assert after.version("reward_1").ref == "r@v000002"
    assert after.key != before.key
    assert scored_by(tmp_path, "['m:f', org/model]").run_of("ppo").inputs["reward_2"] == External(
        "org/model", None
    )


# Seen failing with: ppo.check left out of scoring, and of what makes a reward adapter needed.
def test_what_checks_the_policy_counts_like_what_it_is_trained_on(tmp_path: Path):
    def checked(check: str) -> Planner:
        made = scored_by(tmp_path, "'m:f'")
        path = made.config.path
        path.write_text(path.read_text().replace("ppo: {", f"ppo: {{eval_strategy: steps, check: {check}, "))
        return Planner(load_config(path), made.store)

    assert checked("[r@v1, 'm:g']").run_of("ppo").version("check_1").ref == "r@v000001"
    assert nothing_to_do(checked("'m:g'").config, "reward") is not None
    assert nothing_to_do(checked("adapter").config, "reward") is None
    with pytest.raises(ConfigError, match=r"ppo\.check is an empty list"):
        checked("[]").run_of("ppo")


# Seen failing with: judges left out of scoring, so that an edited or newer one is "up to date".
def test_a_judge_is_an_input_of_the_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def judged(judges: str) -> Run:
        made = scored_by(tmp_path, "'m:f'")
        path = made.config.path
        path.write_text(path.read_text().replace("evaluate: {", f"evaluate: {{judges: {judges}, "))
        return Planner(load_config(path), made.store).run_of("evaluate")

    (tmp_path / "taste.py").write_text("def f(completions, **_): ...\n")
    before = judged("['taste:f', {llm: m, url: 'http://h/v1'}, r@latest]")
    assert before.version("judge_3").ref == "r@v000001"
    assert "judge_1" not in before.inputs
    assert "judge_2" not in before.inputs
    (tmp_path / "taste.py").write_text("def f(completions, **_): return []\n")
    edited = judged("['taste:f', {llm: m, url: 'http://h/v1'}, r@latest]")
    assert edited.key != before.key
    with before.store.draft("r", kind="adapter", stage="reward") as draft:
        (draft.path / "adapter_model.safetensors").write_bytes(b"newer")
    newer = judged("['taste:f', {llm: m, url: 'http://h/v1'}, r@latest]")
    assert newer.version("judge_3").ref == "r@v000002"
    assert newer.key != edited.key


def test_a_policy_to_start_from_is_read_when_it_is_named(tmp_path: Path):
    plain = scored_by(tmp_path, "'m:f'").run_of("ppo")
    assert set(plain.inputs) == {"base", "prompts"}
    path = plain.config.path
    path.write_text(path.read_text().replace("prompts: p@v1", "prompts: p@v1, start: pi@v1", 1))
    started = Planner(load_config(path), plain.store).run_of("ppo")
    assert started.version("start").ref == "pi@v000001"
    assert started.key != plain.key


# Seen failing with argparse's own formatter, which reflows the text so that commands run into the prose.
@pytest.mark.parametrize("door", ["label", "ppo", "report"])
def test_help_keeps_the_example_commands_on_their_own_lines(door: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", f"pipeline.{door}", "--help"], capture_output=True, text=True, check=True
    )
    assert f"\n    make {door}" in result.stdout
    assert ":mod:" not in result.stdout
    assert "``" not in result.stdout
