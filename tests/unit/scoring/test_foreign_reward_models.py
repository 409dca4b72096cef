"""Reward models on a base and tokenizer of their own, and several adapters on one base."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from pipeline.base.errors import ConfigError, ModelError
from pipeline.modeling.lora import lora_config, save_adapter
from pipeline.scoring.build_scorer import Ensemble, Scorer, ScorerContext, build
from pipeline.scoring.foreign_reward_models import AdapterScorer, ClassifierScorer, adapter_directory
from pipeline.scoring.reward_adapter import RewardRole, Scoring, score_position
from pipeline.scoring.scorer import Samples
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora
from tests.helpers.refusals import refusal

POLICY = tiny_tokenizer()
# Of several lengths: ended, cut by length, empty, ended at once.
SAMPLES = Samples(
    [[5, 6, 7], [8], [1, 2, 3, 4, 9], [20, 21], [30]],
    [[10, 11, 51], [12, 13, 14, 15], [], [51], [52, 40, 51]],
    POLICY,
)
TEXTS = ["w5 w6 w7 w10 w11", "w8 w12 w13 w14 w15", "w1 w2 w3 w4 w9", "w20 w21", "w30 w40"]


def foreign_tokenizer(bert: bool = False, pad: str | None = "<pad>", **more: Any) -> Any:
    """The policy's words under other numbers: w50 is 2, w0 is 52."""
    vocab = {"<eos>": 0, "<pad>": 1} | {f"w{50 - i}": i + 2 for i in range(51)}
    core = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    if bert:
        special = [("w49", 3), ("w48", 4)]
        core.post_processor = processors.TemplateProcessing("w49 $A w48", None, special)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token=pad, **more)


def architecture(kind: str, **more: Any) -> Any:
    library: Any = transformers
    sizes: dict[str, Any] = {"vocab_size": 53, "num_labels": 1, "initializer_range": 0.5, "pad_token_id": 1}
    layers = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "gpt2":
        sizes |= {"n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 50256}
        return library.GPT2Config(**sizes | {"eos_token_id": 0} | more)
    if kind == "llama":
        heads = {"num_key_value_heads": 1, "max_position_embeddings": 16, "bos_token_id": None, "eos_token_id": 0}
        return library.LlamaConfig(**sizes | layers | heads | more)
    if kind == "roberta":
        layers |= {"max_position_embeddings": 18, "type_vocab_size": 1}
        return library.RobertaConfig(**sizes | layers | more)
    small = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 16}
    return library.DistilBertConfig(**sizes | small | more)


KINDS = ["gpt2", "llama", "distilbert"]


def save_classifier(path: Path, kind: str, tokenizer: Any = None, seed: int = 0, **config: Any) -> Path:
    torch.manual_seed(seed)
    AutoModelForSequenceClassification.from_config(architecture(kind, **config)).save_pretrained(path)
    (tokenizer or foreign_tokenizer(kind in ("distilbert", "roberta"))).save_pretrained(path)
    return path


def load(path: Path, label: str | None = None) -> ClassifierScorer:
    return ClassifierScorer.load(
        str(path), revision=None, label=label, device="cpu", where="c.yaml", key="ppo.reward"
    )


def plain(path: Path, rows: list[list[int]]) -> torch.Tensor:
    """(N, labels) of each row alone and unpadded, by Hugging Face's own forward."""
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([row])).logits for row in rows])


def ids(*texts: str, path: Path) -> list[list[int]]:
    return AutoTokenizer.from_pretrained(path)(list(texts))["input_ids"]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


# Classifiers


@pytest.mark.parametrize("kind", KINDS)
def test_scores_alone_together_and_by_hugging_face(kind: str, tmp_path: Any):
    path = save_classifier(tmp_path, kind)
    scorer = load(path)
    scores = scorer(SAMPLES)
    # Mutations caught: padding read or attended, rows back in the order of their lengths, the policy's ids used.
    close(scores, plain(path, ids(*TEXTS, path=path))[:, 0])
    assert scores.dtype == torch.float32
    assert scores.std() > 0.1
    scorer.batch_size = 2
    close(scorer(SAMPLES), scores)
    one = [Samples([p], [c], POLICY) for p, c in zip(SAMPLES.prompt_ids, SAMPLES.completion_ids, strict=True)]
    close(torch.cat([scorer(s) for s in one]), scores)
    assert scorer(Samples([], [], POLICY)).shape == (0,)
    assert not any(p.requires_grad for p in scorer.classifier.model.parameters())
    assert not scorer.classifier.model.training


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("pad", [None, 0, 1, 60])
def test_odd_padding(kind: str, pad: int | None, tmp_path: Any):
    """Texts that hold and end with the end-of-sequence token; padding is none, that, another, out of range."""
    tokenizer = foreign_tokenizer(pad={None: None, 0: "<eos>", 1: "<pad>", 60: "<far>"}[pad])
    # 60 only for the tokenizer, whose token nobody gave the model an embedding for.
    path = save_classifier(tmp_path, kind, tokenizer, pad_token_id=1 if pad == 60 else pad)
    given = ["w5 <eos>", "<eos> w5 w6 w7 <eos>", "w8 w9 w10 <eos> <eos>", "w5"]
    scorer = load(path)
    expected = plain(path, ids(*given, path=path))[:, 0]
    # Mutations caught: the last token of the mask where padding tokens end a text (other than in training), and
    # the last that is no padding where config.pad_token_id is None.
    close(scorer(Samples([[1]] * 4, [[]] * 4, POLICY, given)), expected)
    assert len(set(expected.tolist())) == 4 or pad == 0


def test_a_label_gives_its_logit(tmp_path: Any):
    names = {0: "NEGATIVE", 1: "POSITIVE", 2: "NEUTRAL"}
    path = save_classifier(tmp_path, "distilbert", num_labels=3, id2label=names, label2id={})
    # Mutation caught: its probability.
    close(load(path, "positive")(SAMPLES), plain(path, ids(*TEXTS, path=path))[:, 1])
    with pytest.raises(ConfigError, match=r"c\.yaml: ppo\.reward: .*labels NEGATIVE, POSITIVE, NEUTRAL.*label"):
        load(path)
    with pytest.raises(ConfigError, match=r'ppo\.reward\.label "happy": the model has the labels NEGATIVE'):
        load(path, "happy")
    with pytest.raises(ConfigError, match=r'ppo\.reward\.label "x": the model has one output'):
        load(save_classifier(tmp_path / "one", "gpt2"), "x")


@pytest.mark.parametrize("kind", [*KINDS, "roberta"])
def test_a_long_prompt_loses_its_beginning(kind: str, tmp_path: Any):
    path = save_classifier(tmp_path, kind)
    scorer = load(path)
    long = Samples([[5] * 3 + [6] * 30, [7]], [[10, 11, 12], [13]], POLICY)
    room = 14 if kind in ("distilbert", "roberta") else 16
    kept = " ".join(["w6"] * (room - 3) + ["w10", "w11", "w12"])
    # Mutations caught: the end cut off; [SEP] cut off; RoBERTa's two positions that no token can have.
    close(scorer(long), plain(path, ids(kept, "w7 w13", path=path))[:, 0])
    assert scorer.truncated == 1


def test_nothing_to_read(tmp_path: Any):
    path = save_classifier(tmp_path, "gpt2")
    scores = load(path)(Samples([[51], [5]], [[], [6]], POLICY, ["", "w5"]))
    close(scores, plain(path, [[0], *ids("w5 w6", path=path)])[:, 0])


def test_conversations(tmp_path: Any):
    chat = [{"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6"}]
    samples = Samples([[5, 6], [7]], [[10, 51], [11]], POLICY, [chat, "w7"])
    template = "{% for m in messages %}w47 {{ m['content'] }} <eos> {% endfor %}"
    path = save_classifier(tmp_path / "a", "distilbert", foreign_tokenizer(True, chat_template=template))
    # Mutation caught: special tokens around a text whose template has written its own.
    rendered = AutoTokenizer.from_pretrained(path)(
        "w47 w5 <eos> w47 w6 <eos> w47 w10 <eos>", add_special_tokens=False
    )["input_ids"]
    close(load(path)(samples), plain(path, [rendered, *ids("w7 w11", path=path)])[:, 0])

    path = save_classifier(tmp_path / "b", "distilbert")
    turns = ids("User: w5\n\nAssistant: w6\n\nAssistant: w10", "w7 w11", path=path)
    close(load(path)(samples), plain(path, turns)[:, 0])

    template = "{{ raise_exception('roles must alternate') }}"
    path = save_classifier(tmp_path / "c", "gpt2", foreign_tokenizer(chat_template=template))
    with pytest.raises(ModelError, match="refuses the roles user, assistant, assistant: roles must alternate"):
        load(path)(samples)


def test_a_score_that_is_no_number(tmp_path: Any):
    scorer = load(save_classifier(tmp_path, "gpt2"))
    scorer.classifier.model.score.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"gave nan for completion 0 \('w10 w11'\)"):
        scorer(SAMPLES)


# Adapters of this pipeline


def save_reward(root: Path, name: str, make: Any, tokenizer: Any, seed: int = 3) -> Path:
    """A reward adapter ``name`` over the base in ``root/base``, as the reward stage leaves it."""
    from peft import get_peft_model

    base = root / "base"
    if not base.is_dir():
        make().save_pretrained(base)
        tokenizer.save_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    config = lora_config(model, r=4, alpha=8, dropout=0.0, target_modules=None, task_type="SEQ_CLS")
    peft = get_peft_model(model, config).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, parameter in peft.named_parameters():
            if "lora_B" in key or "score.modules_to_save" in key:
                parameter.normal_(std=0.1)
    save_adapter(peft, "default", root / name, base=str(base), revision=None, tokenizer=tokenizer)
    Scoring(score_position(tokenizer), 0.1 * seed, 0.5, 10).save(root / name)
    return root / name


def alone(make: Any, directory: Path, samples: Samples) -> torch.Tensor:
    """The adapter as the only reward role of a base of its own."""
    return RewardRole.load(with_lora(make()), directory, samples.tokenizer.eos_token_id)(samples)


def make_scorer(sources: Any, model: Any, adapter_dir: Path | None = None, **more: Any) -> Scorer:
    settings = {k: more.pop(k) for k in ("combine", "std_coef", "key") if k in more}
    context = ScorerContext("c.yaml", "cpu", lambda text: None, model, POLICY, adapter_dir)
    return build(sources, replace(context, **more), **settings)


@pytest.mark.parametrize("pad", ["<pad>", "<eos>"])
def test_an_adapter_over_another_base_reads_the_text(pad: str, tmp_path: Any):
    tokenizer = foreign_tokenizer(pad=pad)
    directory = save_reward(tmp_path, "reward", tiny_llama, tokenizer)
    scorer = make_scorer(str(directory), with_lora(tiny_gpt2()))
    assert isinstance(scorer, AdapterScorer)
    scores = scorer(SAMPLES)
    # w5 is 47 for the other tokenizer; what it does not know as text (the policy's padding) is no part of it.
    prompts = [[52 - i for i in row] for row in SAMPLES.prompt_ids]
    completions = [[52 - i for i in row if i < 51] for row in SAMPLES.completion_ids]
    expected = alone(tiny_llama, directory, Samples(prompts, completions, tokenizer))
    # Mutation caught: the policy's ids or its end-of-sequence token used.
    close(scores, expected)
    one = [Samples([p], [c], POLICY) for p, c in zip(SAMPLES.prompt_ids, SAMPLES.completion_ids, strict=True)]
    close(torch.cat([scorer(s) for s in one]), scores)
    long = scorer(Samples([[5] * 90], [[10]], POLICY))
    assert long.isfinite().all()
    assert scorer.truncated == 1


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_adapters_over_the_policys_base_share_it(make: Any, tmp_path: Any):
    own = save_reward(tmp_path, "own", make, POLICY)
    other = save_reward(tmp_path, "other", make, POLICY, seed=4)
    model = with_lora(make())
    flags = [n for n, p in model.named_parameters() if p.requires_grad]
    sources = [{"model": "other@v1"}, "adapter"]
    resolve = {"other@v1": SimpleNamespace(path=other)}.get
    scorer = make_scorer(sources, model, own, resolve=resolve, base=(str(tmp_path / "base"), None), combine="mean")
    assert isinstance(scorer, Ensemble)
    roles = scorer.members
    assert all(isinstance(r, RewardRole) and r.model is model for r in roles)
    # Mutations caught: both under one name, where the second overwrites the first.
    assert set(model.peft_config) == {"policy", "reward", "reward1"}
    expected = torch.stack([alone(make, d, SAMPLES) for d in (other, own)])
    close(scorer.all_scores(SAMPLES), expected)
    close(scorer(SAMPLES), expected.mean(0))
    assert (expected[0] - expected[1]).abs().min() > 0.01
    assert scorer.names == ["other@v1", "adapter"]
    assert model.active_adapter == "policy"
    assert [n for n, p in model.named_parameters() if p.requires_grad] == flags


def test_adapters_over_another_base_share_that(tmp_path: Any):
    tokenizer = foreign_tokenizer()
    directories = [save_reward(tmp_path, n, tiny_llama, tokenizer, seed=s) for n, s in (("a", 3), ("b", 4))]
    scorer = make_scorer([str(d) for d in directories], with_lora(tiny_gpt2()))
    assert isinstance(scorer, Ensemble)
    first, second = scorer.members
    assert isinstance(first, AdapterScorer)
    assert isinstance(second, AdapterScorer)
    assert first.role.model is second.role.model
    singly = torch.stack([make_scorer(str(d), with_lora(tiny_gpt2()))(SAMPLES) for d in directories])
    close(scorer.all_scores(SAMPLES), singly)
    assert (singly[0] - singly[1]).abs().min() > 0.01


def test_a_base_that_is_trained_itself_is_not_shared(tmp_path: Any):
    own = save_reward(tmp_path, "own", tiny_gpt2, POLICY)
    model = tiny_gpt2()
    scorer = make_scorer(None, model, own, base=(str(tmp_path / "base"), None))
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
    # Mutations caught: the policy's own weights under the reward adapter; its ids decoded and encoded again, which
    # loses the padding token that was sampled.
    close(scorer(SAMPLES), alone(tiny_gpt2, own, SAMPLES))
    base = (str(tmp_path / "base"), None)
    close(make_scorer(str(own), tiny_gpt2(), base=base)(SAMPLES), alone(tiny_gpt2, own, SAMPLES))


def test_an_adapter_from_the_hub(tmp_path: Any, monkeypatch: Any):
    directory = save_reward(tmp_path, "reward", tiny_llama, foreign_tokenizer())

    def download(repo: str, file: str, revision: str | None = None) -> str:
        assert (repo, revision) == ("org/reward", "abc")
        if not (directory / file).is_file():
            raise FileNotFoundError(file)
        return str(directory / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    scorer = make_scorer({"model": "org/reward", "revision": "abc"}, with_lora(tiny_gpt2()))
    close(scorer(SAMPLES), make_scorer(str(directory), with_lora(tiny_gpt2()))(SAMPLES))
    (directory / "scoring.json").unlink()
    with pytest.raises(ModelError, match=r"org/reward: is an adapter without scoring\.json"):
        adapter_directory("org/reward", "abc")
    (directory / "adapter_config.json").unlink()
    assert adapter_directory("org/reward", "abc") is None


def test_models_that_cannot_be_used(tmp_path: Any):
    model = with_lora(tiny_gpt2())
    directory = save_reward(tmp_path, "reward", tiny_llama, foreign_tokenizer())

    def refused(kind: Any, sources: Any, **more: Any) -> str:
        return refusal(kind, make_scorer, sources, model, **more)

    assert "revision" in refused(ConfigError, {"model": str(directory), "revision": "abc"})
    assert "one output and no labels" in refused(ConfigError, {"model": str(directory), "label": "x"})
    assert "answers would be random" in refused(ModelError, str(tmp_path / "base"))
    shutil.copytree(directory, tmp_path / "plain")
    (tmp_path / "plain" / "scoring.json").unlink()
    assert "adapter without scoring.json" in refused(ModelError, str(tmp_path / "plain"))
    config = json.loads((directory / "adapter_config.json").read_text())
    (directory / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone/base"}))
    said = refused(ModelError, str(directory))
    assert str(directory) in said
    assert "its base was at /gone/base, where nothing is now" in said
    assert "data relocate" in said
    (directory / "adapter_config.json").write_text("{}")
    assert "names no base" in refused(ModelError, str(directory))
    assert "c.yaml" in refused(ModelError, "org/not-there-at-all")
