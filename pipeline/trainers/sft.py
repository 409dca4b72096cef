"""Train a base model on texts: TRL's SFTTrainer, from scratch or with LoRA on a pretrained base."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, set_seed
from trl import SFTConfig, SFTTrainer

from pipeline.base.errors import DataError
from pipeline.base.process import main_process, say, watched
from pipeline.base.stored_texts import SelectedTexts, StoredTexts
from pipeline.formats.messages import Message, Render
from pipeline.modeling.lora import fuse_lora, lora_config, merge_into
from pipeline.modeling.precision import cast_base_to_bf16
from pipeline.modeling.roles import language_model
from pipeline.modeling.scratch import new_gpt2, train_tokenizer
from pipeline.modeling.tokens import chat_render, encode_completions, right_pad
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.modeling.weights import require_finite
from pipeline.trainers.arguments import is_sharded
from pipeline.trainers.callbacks import MetricsFile, StopDiverged, diverged_advice, show_progress
from pipeline.trainers.checkpointing import Checkpointed
from pipeline.trainers.sharded import in_one_process
from pipeline.trainers.token_file import IDS, ROWS, Columns, Figures, FileColumn, first_and_longest, token_file
from pipeline.trainers.token_loss_model import has_plain_loss, set_token_loss
from pipeline.workflow.key_checks.bounds import check_section
from pipeline.workflow.sections.sft import SFTFields

Corpus = Sequence[str] | Sequence[Sequence[Message]]
"""Texts, or conversations."""
TOKENIZER_TEXTS = 1_000_000
"""Texts that a new tokenizer learns from, at most: learning holds every distinct word of them."""


@dataclass
class SFTSection(SFTFields, SFTConfig):
    """TRL's ``SFTConfig`` with our further keys."""

    def __post_init__(self) -> None:
        check_section("sft", vars(self))
        self.check_rules()
        super().__post_init__()


class Trainer(Checkpointed, SFTTrainer):
    """TRL's trainer, which resumes after a kill, and runs the model without padding where it can."""

    args: SFTConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plain = self.args.loss_type == "chunked_nll" and not self.args.packing and not self.args.padding_free
        if not plain or is_sharded() or self.args.n_gpu > 1:
            return
        trained = cast("CausalLM", self.model)
        fuse_lora(trained)
        model = language_model(trained)
        if has_plain_loss(model):
            sets = [s for s in (self.train_dataset, self.eval_dataset) if isinstance(s, Dataset)]
            set_token_loss(model, *right_pad(first_and_longest(sets, "input_ids"), 0, model.device))

    def _prepare_dataset(
        self,
        dataset: Any,
        processing_class: Any,
        args: SFTConfig,
        packing: bool,
        formatting_func: Any,
        dataset_name: str,
    ) -> Any:
        """TRL's own, which copies every row twice; of texts that are cut already it would change nothing."""
        if packing or "assistant_masks" in dataset.column_names:
            return super()._prepare_dataset(
                dataset, processing_class, args, packing, formatting_func, dataset_name
            )
        return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset


def scratch_model(
    args: SFTSection, corpus: Corpus, tokenizer: Tokenizer | None
) -> tuple[PreTrainedModel, Tokenizer]:
    """A new GPT-2 and its tokenizer, a function of the seed; with a chat template for conversations."""
    set_seed(args.seed)
    if tokenizer is None:
        learnt = tokenizer_texts(corpus)
        contents = (text if isinstance(text, str) else "\n".join(_contents(text)) for text in learnt)
        tokenizer = train_tokenizer(contents, args.vocab_size, chat=not is_plain(corpus))
    shape = {k: getattr(args, k) for k in ("n_layer", "n_embd", "n_head", "n_positions")}
    return new_gpt2(tokenizer, **shape), tokenizer


def tokenizer_texts(corpus: Corpus) -> Iterable[str | Sequence[Message]]:
    """The corpus, or of one above :data:`TOKENIZER_TEXTS` every second, third ... text."""
    step = -(-len(corpus) // TOKENIZER_TEXTS)
    if step <= 1:
        return corpus
    say("sft", f"the tokenizer learns from {-(-len(corpus) // step):,} of {len(corpus):,} texts")
    return (corpus[place] for place in range(0, len(corpus), step))


def _contents(conversation: Sequence[Message]) -> Iterator[str]:
    """What the tokenizer learns from: what is said, and the roles, which the template writes."""
    for message in conversation:
        yield from (message["role"], message["content"])


@dataclass(frozen=True)
class Tokenized:
    """The corpus as tokens, each row with its end-of-sequence token.

    Attributes:
        replies: 1 for each token of an assistant's reply and the mark that ends it; None for plain texts.
        cut: texts that were longer.
        table: the columns.
    """

    rows: Sequence[list[int]]
    replies: Sequence[list[int]] | None
    cut: int
    table: Dataset

    def part(self, start: int, end: int) -> Dataset:
        """Rows of it, as TRL reads them: of conversations only the replies are trained."""
        return self.table.select(range(start, end))


def tokenize_corpus(tokenizer: Tokenizer, corpus: Corpus, max_length: int, path: Path | None = None) -> Tokenized:
    """Texts, and conversations as the chat template writes them, cut to ``max_length`` tokens.

    Args:
        path: of the file of tokens, see :func:`pipeline.trainers.token_file.token_file`.
    """
    render = chat_render(tokenizer)
    plain = is_plain(corpus)

    def batches(figures: Figures) -> Iterator[Columns]:
        stream = watched(corpus, "sft", "texts tokenised", len(corpus))
        figures["cut"] = 0
        while batch := list(islice(stream, ROWS)):
            texts = [text if isinstance(text, str) else "".join(_written(text, render)) for text in batch]
            rows = [[*ids, tokenizer.eos_token_id] for ids in encode_completions(tokenizer, texts)]
            figures["cut"] += sum(len(row) > max_length for row in rows)
            columns: Columns = {"input_ids": [row[:max_length] for row in rows]}
            if not plain:
                masks = _masks(tokenizer, batch, texts, rows, render)
                columns["assistant_masks"] = [mask[:max_length] for mask in masks]
            yield columns

    schema = {"input_ids": IDS, **({} if plain else {"assistant_masks": IDS})}
    table, figures = token_file(path, schema, batches)
    masks = None if plain else FileColumn(table, "assistant_masks", path)
    return Tokenized(FileColumn(table, "input_ids", path), masks, figures["cut"], table)


def is_plain(corpus: Corpus) -> bool:
    """Whether it is texts alone."""
    return isinstance(corpus, StoredTexts | SelectedTexts) or all(isinstance(text, str) for text in corpus)


def _masks(
    tokenizer: Tokenizer,
    corpus: Sequence[str | Sequence[Message]],
    texts: list[str],
    rows: Sequence[list[int]],
    render: Render,
) -> list[list[int]]:
    """1 for each token that is trained."""
    ends = cast(
        "list[Any]", tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    )
    return [
        [1] * len(row) if isinstance(text, str) else [*_replies(text, render, written, offsets), 1]
        for row, text, written, offsets in zip(rows, corpus, texts, ends, strict=True)
    ]


def _written(conversation: Sequence[Message], render: Render) -> tuple[str, str]:
    """The prompt and the last reply."""
    return render(conversation[:-1], conversation[-1]["content"])


def _replies(
    conversation: Sequence[Message], render: Render, written: str, offsets: Sequence[tuple[int, int]]
) -> list[int]:
    """1 for each token of a reply, and for the mark that follows it."""
    spans: list[tuple[int, int]] = []
    for place, message in enumerate(conversation):
        if message["role"] == "assistant":
            prompt, reply = render(conversation[:place], message["content"])
            if written.startswith(prompt + reply):
                spans.append((len(prompt), len(prompt) + len(reply)))
    return [int(any(start <= at <= end for start, end in spans)) for at, _ in offsets]


def held_out_of(args: SFTSection, texts: int) -> int:
    """How many of the texts are held out. Raises DataError where too few are left for a batch."""
    held_out = max(1, int(texts * args.eval_share))
    if texts < 2 * held_out or texts < args.per_device_train_batch_size:
        batch = args.per_device_train_batch_size
        raise DataError("sft corpus", f"{texts} texts are too few for a batch of {batch}.")
    return held_out


def untrained(
    model: PreTrainedModel, whole: Callable[[], PreTrainedModel] | None, adapter: LoraConfig | None
) -> Callable[[], Any]:
    """Makes the model as it is before training, once sharding has changed ``model`` itself."""
    if whole is None or adapter is None:
        before = copy.deepcopy(model)
        return lambda: before
    return lambda: get_peft_model(whole(), adapter)


def train(
    args: SFTSection,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    corpus: Corpus,
    *,
    whole: Callable[[], PreTrainedModel] | None,
    metrics: Path,
    tokens: Path | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Train ``model`` on ``corpus``, from the newest checkpoint in ``args.output_dir`` if there is one.

    Args:
        whole: loads the pretrained base again in its own precision: train LoRA and merge it, with ``args.bf16`` on
            a base cast to bf16. None to train every weight.
        tokens: of the file of tokens, see :func:`pipeline.trainers.token_file.token_file`.
    Returns:
        The trained full model and figures for the manifest.
    Raises:
        DataError: too few texts.
        ModelError: no weight moved, or the weights are not finite.
    """
    set_seed(args.seed)
    limit = min(args.max_length or 10**9, model.config.max_position_embeddings)
    tokenized = tokenize_corpus(tokenizer, corpus, limit, tokens)
    rows = tokenized.rows
    held_out = held_out_of(args, len(rows))
    adapter = lora_config(model, **args.lora(), task_type="CAUSAL_LM") if whole is not None else None
    casts = bool(args.bf16) and whole is not None and not is_sharded()
    if casts:
        cast_base_to_bf16(model, adapted=True)
        args.mixed_precision = "no"  # the base has it; autocast would cast LoRA and states to and fro
    # TRL pads with the tokenizer's token; its labels and masks come from lengths, so any id will do.
    trainer = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=tokenized.part(held_out, len(rows)),
        eval_dataset=tokenized.part(0, held_out),
        peft_config=adapter,
        callbacks=[MetricsFile(metrics), StopDiverged("sft")],
    )
    show_progress(trainer)
    fresh = untrained(model, whole, adapter) if trainer.is_fsdp_enabled else None
    train_loss = trainer.train_on("sft")
    loss = trainer.evaluate()["eval_loss"]
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    if fresh is not None:
        trained = in_one_process(trained, fresh)
        if not main_process():
            return trained, {}
    if whole is not None:
        trained = merge_into(whole(), trained) if casts else trained.merge_and_unload()
    require_finite(trained, "sft", diverged_advice("sft"))
    losses = {"train_loss": train_loss, "eval_loss": loss, "eval_perplexity": math.exp(min(loss, 50.0))}
    counts = {"texts": len(rows), "texts_cut": tokenized.cut, "steps": trainer.state.global_step}
    return trained.eval(), {**counts, **losses, "parameters": sum(p.numel() for p in trained.parameters())}
