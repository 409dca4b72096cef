"""Static decoding: the same completions as the plain loop, and a step that a CUDA graph could hold."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MistralConfig, MistralForCausalLM

from pipeline.modeling.decoding import cuda_graph_decoding as static_module
from pipeline.modeling.decoding.cuda_graph_decoding import LOOK_EVERY, WARM_UP, StaticDecoder, fits
from pipeline.modeling.decoding.drawing import Completions, uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.roles import merged_adapter
from tests.conftest import tiny_gpt2, with_lora

PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9, 10], [11, 12], [13, 14], [15], [16, 17, 18, 19], [20]] * 2
STEPS = 34  # with the longest prompt 40, so that the room is full to the last slot


def noise(rows: int, steps: int = STEPS) -> torch.Tensor:
    return uniforms(rows, steps, torch.Generator().manual_seed(3))


def value_head(states: torch.Tensor) -> torch.Tensor:
    return states.float().sin().sum(-1)


def both(model: Any, prompts: list[list[int]] = PROMPTS, **more: Any) -> tuple[Completions, Completions]:
    settings: dict[str, Any] = {
        "max_new_tokens": STEPS,
        "eos_id": 51,
        "noise": noise(len(prompts)),
        "value_head": value_head,
        **more,
    }
    plain, fast = (generate(model, prompts, cuda_graphs=graphs, **settings) for graphs in (False, True))
    return plain, fast


def check_same(plain: Completions, fast: Completions) -> None:
    assert fast.rows() == plain.rows()
    assert fast.ended.tolist() == plain.ended.tolist()
    torch.testing.assert_close(fast.logprobs, plain.logprobs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.values, plain.values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 0.7, "batch_size": 3},
        {"eos_id": None, "batch_size": 5},
        {"max_new_tokens": 1, "noise": noise(16, 1)},
    ],
    ids=str,
)
def test_same_completions_as_the_plain_loop(base: Any, settings: dict[str, Any]):
    # Batches of 3 and 5 rows have prompts of other widths each, and a last batch that is short. Mutations caught:
    # a mask left over from a wider batch, positions counted from the padded column, a slot off by one, ended rows
    # that count on, completions handed out without a copy.
    plain, fast = both(base, **settings)
    check_same(plain, fast)
    if not settings:
        assert len(set(plain.lengths.tolist())) > 2, "the test needs rows that end at different steps"
        assert 0 < plain.ended.sum() < len(PROMPTS)


def test_prompts_of_one_width_need_no_mask(base: Any):
    check_same(*both(base, [[1, 2, 3], [4, 5, 6], [7, 8, 9]], batch_size=2))


def test_weights_of_the_call_are_the_ones_used(base: Any):
    model = with_lora(base)
    before = generate(model, PROMPTS, max_new_tokens=STEPS, eos_id=51, noise=noise(16), cuda_graphs=True).rows()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.mul_(-3)
    with merged_adapter(model, "policy"):
        plain, fast = both(model)
    check_same(plain, fast)
    assert fast.rows() != before


def test_it_stops_soon_after_the_last_row_has(monkeypatch: pytest.MonkeyPatch):
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.bias.zero_()
        model.transformer.ln_f.bias[0] = 50.0
        model.transformer.wte.weight[:, 0] = 0.0
        model.transformer.wte.weight[51, 0] = 5.0
    taken: list[int] = []
    step = StaticDecoder.step
    monkeypatch.setattr(StaticDecoder, "step", lambda self: (taken.append(1), step(self))[1])
    sampled = generate(model, PROMPTS, max_new_tokens=STEPS, eos_id=51, cuda_graphs=True)
    assert sampled.rows() == [[51]] * len(PROMPTS)
    assert len(taken) == LOOK_EVERY - 1
    assert not sampled.logprobs[:, 1:].any()


class NoWaiting(TorchDispatchMode):
    """Refuses what would make a CPU wait for a GPU, or bring it a number: a graph holds neither."""

    refused = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "lift_fresh", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert not name.lstrip("_").startswith(tuple(r.lstrip("_") for r in self.refused)), name
        by_mask = name.startswith(("index", "_index")) and len(args) > 1 and isinstance(args[1], list | tuple)
        assert not (by_mask and any(i is not None and i.dtype == torch.bool for i in args[1])), name
        return func(*args, **(kwargs or {}))


def addresses(decoder: StaticDecoder) -> dict[str, int]:
    found = {k: v.data_ptr() for k, v in vars(decoder).items() if isinstance(v, torch.Tensor)}
    for i, layer in enumerate(decoder.cache.layers):
        found |= {f"keys{i}": layer.keys.data_ptr(), f"values{i}": layer.values.data_ptr()}
    return found


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_step_could_be_captured(base: Any, temperature: float):
    decoder = StaticDecoder(base, 4, 40, 20, 51, temperature, value_head)
    with torch.no_grad():
        decoder.prefill(PROMPTS[:4])
        before = addresses(decoder)
        # Mutations caught: the slot as a Python number, an update that is not in place, rows picked by a mask.
        with NoWaiting():
            decoder.step()
            decoder.step()
        assert addresses(decoder) == before
        decoder.decode(PROMPTS[4:7], noise(3, 20))
        assert addresses(decoder) == before
    assert decoder.lengths[3] == 0, "the row that fills up a batch keeps it going"


def test_refusing_mode_refuses():
    x = torch.ones(3)
    for wait in (lambda: x.sum().item(), lambda: x[x > 0], lambda: bool(x.any()), lambda: torch.tensor(2.0) + x):
        with pytest.raises(AssertionError), NoWaiting():
            wait()


def test_buffers_go_with_the_call(monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []
    init = StaticDecoder.__init__
    monkeypatch.setattr(
        StaticDecoder, "__init__", lambda self, *a, **k: (made.append(weakref.ref(self)), init(self, *a, **k))[1]
    )
    gc.disable()
    try:
        generate(tiny_gpt2(), PROMPTS, max_new_tokens=3, eos_id=51, cuda_graphs=True)
        # Mutation caught: a decoder that holds itself, whose memory would wait for the garbage collector.
        assert made[0]() is None
    finally:
        gc.enable()


def test_which_models_it_fits(base: Any):
    assert fits(base)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fits(base)
    base.set_attn_implementation("eager")
    assert not fits(base)
    with pytest.raises(ValueError, match="sdpa"):
        generate(base, PROMPTS, max_new_tokens=3, eos_id=51, cuda_graphs=True)
    shape: dict[str, Any] = {"vocab_size": 53, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    more: dict[str, Any] = {"intermediate_size": 8, "num_key_value_heads": 2}
    assert not fits(MistralForCausalLM(MistralConfig(**shape, **more, sliding_window=4)))
    assert fits(MistralForCausalLM(MistralConfig(**shape, **more, sliding_window=None)))


# Catches: graphs by default, which nobody has measured on a GPU.
def test_it_is_only_used_when_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(StaticDecoder, "__init__", lambda *_, **__: pytest.fail("made without being asked for"))
    generate(tiny_gpt2(), PROMPTS, max_new_tokens=3, eos_id=51)


class FakeCuda:
    """As much of ``torch.cuda`` as capturing takes. What runs during a capture leaves no trace, as on a GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.mode: int | str = 0
        self.decoder: Any = None
        names: dict[str, Any] = {
            "Stream": lambda *_: self,
            "current_stream": lambda *_: self,
            "stream": lambda *_: nullcontext(),
        }
        names |= {
            "CUDAGraph": lambda: self,
            "graph": self.capture,
            "empty_cache": lambda: self.log.append("empty"),
        }
        names |= {"get_sync_debug_mode": lambda: self.mode, "set_sync_debug_mode": self.set_mode}
        for name, stand_in in names.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(static_module, "_side_stream", lambda *_: self)
        step = StaticDecoder.step
        monkeypatch.setattr(StaticDecoder, "step", lambda d: (self.log.append("step"), step(d))[1])

    def wait_stream(self, other: Any) -> None:
        assert other is self

    def set_mode(self, mode: int | str) -> None:
        self.mode = mode

    def tensors(self) -> list[torch.Tensor]:
        buffers = [b for layer in self.decoder.cache.layers for b in layer.buffers]
        return [v for v in vars(self.decoder).values() if isinstance(v, torch.Tensor)] + buffers

    @contextmanager
    def capture(self, graph: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert graph is stream is self
        assert capture_error_mode == "thread_local"
        before = [x.clone() for x in self.tensors()]
        self.log.append("capture")
        yield
        self.log.append("captured")
        for now, then in zip(self.tensors(), before, strict=True):
            now.copy_(then)

    def replay(self) -> None:
        self.log.append("replay")
        self.decoder.step()

    def reset(self) -> None:
        self.log.append("reset")


def run_captured(cuda: FakeCuda, model: Any, head: Any) -> Completions:
    draws = noise(16)
    with torch.no_grad(), StaticDecoder(model, 8, 40, STEPS, None, 1.0, head) as decoder:
        cuda.decoder, decoder.capture = decoder, True
        parts = [decoder.decode(PROMPTS[i : i + 8], draws[i : i + 8]) for i in (0, 8)]
    return Completions(**{k: torch.cat([getattr(p, k) for p in parts]) for k in vars(parts[0])})


def test_warm_up_capture_and_replay_lose_no_token(monkeypatch: pytest.MonkeyPatch):
    model = tiny_gpt2()
    plain, _ = both(model, eos_id=None)
    cuda = FakeCuda(monkeypatch)
    # Mutations caught: no replay after the capture, a warm-up step that does not count, a capture for every batch.
    check_same(plain, run_captured(cuda, model, value_head))
    steps = 2 * (STEPS - 1)
    replays = ["replay", "step"] * (steps - WARM_UP)
    assert cuda.log == ["step"] * WARM_UP + ["capture", "step", "captured", *replays, "reset", "empty"]
    assert cuda.mode == 0


def test_a_step_that_waits_is_not_captured(monkeypatch: pytest.MonkeyPatch):
    model = tiny_gpt2()
    plain, _ = both(model, eos_id=None)
    cuda = FakeCuda(monkeypatch)

    def waiting(states: torch.Tensor) -> torch.Tensor:
        if cuda.mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        return value_head(states)

    # Mutation caught: a slot moved on before the point where a step may be broken off.
    check_same(plain, run_captured(cuda, model, waiting))
    assert set(cuda.log) == {"step"}
    assert cuda.mode == 0
