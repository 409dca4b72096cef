"""The dataset card of a version: its README.md in the Hub's format, which ``load_dataset(directory)`` reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.statistics.spelling import escape_cell
from pipeline.store.manifest import Manifest
from pipeline.store.parquet import arrow

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_DTYPES = {"double": "float64", "float": "float32", "halffloat": "float16"}


@dataclass(frozen=True)
class CardSplit:
    """One split as the card lists it. ``uncompressed`` is the size in bytes of its columns, decoded."""

    config: str
    split: str
    pattern: str
    schema: Any
    rows: int
    bytes: int
    uncompressed: int


def card_splits(manifest: Manifest, metadata: Callable[[str], Any]) -> list[CardSplit]:
    """What a card lists of a version's splits.

    Args:
        metadata: gives the Parquet metadata of a file of the version.
    """
    listed: list[CardSplit] = []
    for key, split in manifest.splits.items():
        config, _, name = key.rpartition("/")
        if not split.files:
            continue
        metas = [metadata(f.path) for f in split.files]
        decoded = sum(m.row_group(g).total_byte_size for m in metas for g in range(m.num_row_groups))
        schema = metas[0].schema.to_arrow_schema().remove_metadata()
        pattern = f"{config or 'data'}/{name}-*.parquet"
        listed.append(CardSplit(config or "default", name, pattern, schema, split.rows, split.bytes, decoded))
    return listed


def render_card(manifest: Manifest, splits: list[CardSplit], repo: str | None = None) -> str:
    """The text of README.md for a version that did not bring its own; ``repo`` is where it is published."""
    from huggingface_hub import DatasetCardData

    groups: dict[str, list[CardSplit]] = {}
    for s in splits:
        # datasets 5 cannot open an empty split (ArrowReader: "corresponds to no data"), nor any beside it.
        if s.rows:
            groups.setdefault(s.config, []).append(s)
    infos = [_info(config, group) for config, group in groups.items()]
    data = DatasetCardData(
        license=str(manifest.governance.get("license") or "unknown"),
        tags=["rlhf", manifest.kind],
        size_categories=[_size(sum(s.rows for s in splits))] if groups else None,
        configs=_configs(groups) if groups else None,
        dataset_info=(infos[0] if len(infos) == 1 else infos) or None,
    )
    load = _loading(repo, list(groups)) if repo is not None and groups else ""
    return f"---\n{data}\n---\n\n{_body(manifest)}{load}"


def _loading(repo: str, configs: list[str]) -> str:
    named = "" if "default" in configs else f', "{configs[0]}"'
    others = "".join(f'\n# load_dataset("{repo}", "{c}")' for c in configs if c != "default")
    lines = f'from datasets import load_dataset\n\nrows = load_dataset("{repo}"{named}){others}'
    return f"\n## How to load\n\n```python\n{lines}\n```\n"


def _body(manifest: Manifest) -> str:
    lines = [f"# {manifest.name} v{manifest.version:06d}", ""]
    lines.append(f"A version of kind `{manifest.kind}`, written by the stage `{manifest.stage}`.")
    if manifest.parents:
        lines += ["", "Made from:", *(f"- {p.role}: `{p.ref}`" for p in manifest.parents)]
    if manifest.splits:
        lines += ["", "| split | rows |", "|---|---:|"]
        lines += [f"| {key} | {split.rows} |" for key, split in manifest.splits.items()]
    lines += [part for section in approvals(manifest) for part in ("", section)]
    lines += ["", "`manifest.json` holds the config, the code, the lineage and the sha256 of every file."]
    return "\n".join(lines) + "\n"


def approvals(manifest: Manifest) -> list[str]:
    """The section of a card on what people approved, or said no to, on the way to this version; none without."""
    said = [(a, "approved") for a in manifest.governance.get("approved") or ()]
    said += [(a, "said no to") for a in manifest.governance.get("rejected") or ()]
    lines = [
        f"- {escape_cell(a['by'])} {verb} `{a['ref']}` at {a['time']} (the bytes {str(a['seal'])[:16]})"
        + (f": {escape_cell(a['note'])}" if a.get("note") else "")
        for a, verb in said
    ]
    return ["## Who approved what it was made from\n\n" + "\n".join(lines)] if lines else []


def _configs(groups: dict[str, list[CardSplit]]) -> list[dict[str, Any]]:
    configs: list[dict[str, Any]] = [
        {"config_name": config, "data_files": [{"split": s.split, "path": s.pattern} for s in group]}
        for config, group in groups.items()
    ]
    if "default" not in groups:
        configs[0]["default"] = True
    return configs


def _info(config: str, group: list[CardSplit]) -> dict[str, object]:
    info: dict[str, object] = {"config_name": config}
    features = [_feature(f.name, f.type) for f in group[0].schema]
    # Where a column has no feature the list is left out, and datasets reads the Parquet schema.
    if all(f is not None for f in features):
        info["features"] = features
    info["splits"] = [{"name": s.split, "num_bytes": s.uncompressed, "num_examples": s.rows} for s in group]
    info["download_size"] = sum(s.bytes for s in group)
    info["dataset_size"] = sum(s.uncompressed for s in group)
    return info


def _feature(name: str, kind: Any) -> dict[str, Any] | None:
    feature = _arrow_feature(kind)
    return None if feature is None else {"name": name, **feature}


def _arrow_feature(kind: Any) -> dict[str, Any] | None:
    """An Arrow type as ``datasets.Features`` writes it into YAML; None where it has no such form.

    ``datasets`` would do it, but its import costs a stage that publishes 0.8 s of CPU.
    """
    pa, _ = arrow()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _arrow_feature(kind.value_type)
        word = "list" if pa.types.is_list(kind) else "large_list"
        if inner is None:
            return None
        short = list(inner) in (["dtype"], ["struct"])
        return {word: next(iter(inner.values())) if short else inner}
    if pa.types.is_struct(kind):
        fields = [_feature(f.name, f.type) for f in kind]
        return {"struct": fields} if all(f is not None for f in fields) else None
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or pa.types.is_decimal(kind):
        return None
    return {"dtype": _DTYPES.get(str(kind), str(kind))}


def _size(rows: int) -> str:
    return _SIZES[min(max(len(str(rows)) - 3, 0), len(_SIZES) - 1)]
