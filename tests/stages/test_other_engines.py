"""A merged policy in engines that are not torch: ctranslate2, ONNX, llama.cpp give transformers' logits and text.

They are no dependencies: install them beside the project (each test says which), and run this with ``-m slow``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.__main__ import main
from pipeline.modeling.loading import save_model
from pipeline.modeling.other_engines.gguf_writing import write_gguf
from pipeline.modeling.scratch import train_tokenizer
from pipeline.store.store import Store
from tests.stages.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEXTS = [
    "This film was",
    "The radio arrived on Monday. The sound is",
    "2 of 10: it's Ünï©ode 天 🚀,\n  we'll see.",
]
NEW = 16
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def policy(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that ``merge --out`` writes."""
    root = tmp_path_factory.mktemp("engines")
    shutil.copytree(finished.root / "data", root / "data")
    main(["data", "relocate", "--root", str(root / "data")])
    assert main(["merge", "mini-policy", "--root", str(root / "data"), "--out", str(root / "policy")]) == 0
    assert Store(root / "data").resolve("mini-policy-merged").verify() == []
    return root / "policy"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with fewer keys than queries, whose weights are as wide as those of a trained one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a good film , and a bad one ."], 300)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            bos_token_id=0,
            eos_token_id=0,
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        )
    )
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    directory = tmp_path_factory.mktemp("llama")
    save_model(model, tokenizer, directory)
    return directory


class Expected:
    """What transformers computes: ids, logits at every position, greedy continuations."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.ids: list[list[int]] = [self.tokenizer(text)["input_ids"] for text in TEXTS]

    @torch.no_grad()
    def logits(self, ids: list[int]) -> np.ndarray:
        return self.model(torch.tensor([ids])).logits[0].numpy()

    @torch.no_grad()
    def greedy(self, ids: list[int]) -> list[int]:
        prompt = torch.tensor([ids])
        options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": self.tokenizer.pad_token_id}
        return self.model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[
            0, len(ids) :
        ].tolist()


def distance(read: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest number where that is over 1."""
    return float(np.abs(read - expected).max()) / max(1.0, float(np.abs(expected).max()))


def greedy_by(logits: Callable[[list[int]], np.ndarray], ids: list[int], end: int) -> list[int]:
    """The greedy continuation by an engine that gives the logits of a whole text."""
    new: list[int] = []
    while len(new) < NEW and end not in new:
        new.append(int(logits([*ids, *new])[-1].argmax()))
    return new


def check(name: str, expected: Expected, logits: Callable[[list[int]], np.ndarray]) -> None:
    worst = 0.0
    for ids in expected.ids:
        worst = max(worst, distance(logits(ids), expected.logits(ids)))
        assert greedy_by(logits, ids, expected.tokenizer.eos_token_id) == expected.greedy(ids)
    print(f"{name}: logits at most {worst:.1e} apart, greedy tokens equal")
    assert worst < TOLERANCE


@pytest.mark.parametrize("name", ["policy", "llama"])
def test_ctranslate2(name: str, request: pytest.FixtureRequest, tmp_path: Path):
    ctranslate2: Any = pytest.importorskip("ctranslate2", reason="pip install ctranslate2")
    directory = cast("Path", request.getfixturevalue(name))
    expected = Expected(directory)
    ctranslate2.converters.TransformersConverter(str(directory)).convert(str(tmp_path / "model"))
    generator = ctranslate2.Generator(
        str(tmp_path / "model"), device="cpu", compute_type="float32", intra_threads=1
    )

    def logits(ids: list[int]) -> np.ndarray:
        words = expected.tokenizer.convert_ids_to_tokens(ids)
        return np.array(generator.forward_batch([words], return_log_probs=False))[0]

    check(f"ctranslate2 {ctranslate2.__version__}", expected, logits)
    for ids in expected.ids:
        words = expected.tokenizer.convert_ids_to_tokens(ids)
        [made] = generator.generate_batch([words], max_length=NEW, sampling_topk=1, include_prompt_in_result=False)
        end = expected.tokenizer.eos_token_id
        assert [i for i in made.sequences_ids[0] if i != end] == [i for i in expected.greedy(ids) if i != end]


@pytest.mark.parametrize("name", ["policy", "llama"])
def test_onnxruntime(name: str, request: pytest.FixtureRequest, tmp_path: Path):
    onnxruntime: Any = pytest.importorskip("onnxruntime", reason="pip install onnxruntime onnxscript")
    pytest.importorskip("onnxscript", reason="pip install onnxruntime onnxscript")
    expected = Expected(cast("Path", request.getfixturevalue(name)))

    class Logits(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return expected.model(input_ids=input_ids, use_cache=False).logits

    shape = {"input_ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=2, max=100)}}
    module, file = Logits(), tmp_path / "model.onnx"
    module.model = expected.model  # its weights
    torch.onnx.export(module, (torch.ones(2, 7, dtype=torch.long),), file, dynamo=True, dynamic_shapes=shape)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (inputs,) = session.get_inputs()

    def logits(ids: list[int]) -> np.ndarray:
        return session.run(None, {inputs.name: np.array([ids])})[0][0]

    check(f"onnxruntime {onnxruntime.__version__}", expected, logits)


@pytest.mark.parametrize("name", ["policy", "llama"])
def test_llama_cpp(name: str, request: pytest.FixtureRequest, tmp_path: Path):
    """The vocabulary too: llama.cpp has a tokenizer of its own."""
    llama_cpp: Any = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python (compiles llama.cpp)")
    directory = cast("Path", request.getfixturevalue(name))
    expected = Expected(directory)
    write_gguf(directory, tmp_path / "model.gguf", name, None)
    f32 = 0  # of keys and values, which are in half precision by default
    options = {"type_k": f32, "type_v": f32, "flash_attn": False, "logits_all": True, "verbose": False}
    engine = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=128, n_threads=1, **options)

    def logits(ids: list[int]) -> np.ndarray:
        engine.reset()
        engine.eval(ids)
        return np.array(engine.scores[: len(ids)])

    for text, ids in zip(TEXTS, expected.ids, strict=True):
        assert engine.tokenize(text.encode(), add_bos=True, special=True) == ids
        assert engine.detokenize(ids).decode() == text
    check(f"llama-cpp-python {llama_cpp.__version__}", expected, logits)
    if name == "policy":  # random weights make no text
        made = engine.create_completion(TEXTS[0], max_tokens=NEW, temperature=0.0, repeat_penalty=1.0)
        greedy = expected.tokenizer.decode(expected.greedy(expected.ids[0]), skip_special_tokens=True)
        assert made["choices"][0]["text"] == greedy
