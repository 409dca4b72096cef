"""README.md of a version: a Hub card, so that ``load_dataset`` opens the directory with none of our code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.store.manifest import Manifest
from pipeline.store.parquet import arrow

_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
_DTYPES = {"double": "float64", "float": "float32", "halffloat": "float16"}


@dataclass(frozen=True)
class CardSplit:
    """What the card says of one split. ``uncompressed`` is the size in bytes of its columns, decoded."""

    config: str
    split: str
    pattern: str
    schema: Any
    rows: int
    bytes: int
    uncompressed: int


def render_card(manifest: Manifest, splits: list[CardSplit]) -> str:
    """The text of README.md for a version that did not bring its own."""
    import yaml

    # datasets 5 cannot open an empty split (ArrowReader: "corresponds to no data"), and would open none beside it.
    listed = [s for s in splits if s.rows]
    head: dict[str, Any] = {"license": str(manifest.governance.get("license") or "unknown")}
    head["tags"] = ["rlhf", manifest.kind]
    if listed:
        head["size_categories"] = [_size(sum(s.rows for s in listed))]
        head["configs"] = _configs(listed)
        infos = [_info(config, group) for config, group in _by_config(listed).items()]
        head["dataset_info"] = infos[0] if len(infos) == 1 else infos
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{_body(manifest)}"


def _body(manifest: Manifest) -> str:
    lines = [f"# {manifest.name} v{manifest.version:06d}", ""]
    lines.append(f"A version of kind `{manifest.kind}`, written by the stage `{manifest.stage}`.")
    if manifest.parents:
        lines += ["", "Made from:", *(f"- {p.role}: `{p.ref}`" for p in manifest.parents)]
    if manifest.splits:
        lines += ["", "| split | rows |", "|---|---:|"]
        lines += [f"| {key} | {split.rows} |" for key, split in manifest.splits.items()]
    lines += ["", "`manifest.json` holds the config, the code, the lineage and the sha256 of every file."]
    return "\n".join(lines) + "\n"


def _by_config(splits: list[CardSplit]) -> dict[str, list[CardSplit]]:
    groups: dict[str, list[CardSplit]] = {}
    for s in splits:
        groups.setdefault(s.config, []).append(s)
    return groups


def _configs(splits: list[CardSplit]) -> list[dict[str, Any]]:
    groups = _by_config(splits)
    configs: list[dict[str, Any]] = [
        {"config_name": config, "data_files": [{"split": s.split, "path": s.pattern} for s in group]}
        for config, group in groups.items()
    ]
    if "default" not in groups:
        configs[0]["default"] = True
    return configs


def _info(config: str, group: list[CardSplit]) -> dict[str, Any]:
    info: dict[str, Any] = {"config_name": config}
    features = [_feature(f.name, f.type) for f in group[0].schema]
    # An arrow type that has no YAML spelling: leave the whole list out, and datasets reads the Parquet schema.
    if all(f is not None for f in features):
        info["features"] = features
    info["splits"] = [{"name": s.split, "num_bytes": s.uncompressed, "num_examples": s.rows} for s in group]
    info["download_size"] = sum(s.bytes for s in group)
    info["dataset_size"] = sum(s.uncompressed for s in group)
    return info


def _feature(name: str, kind: Any) -> dict[str, Any] | None:
    spelled = _spell(kind)
    return None if spelled is None else {"name": name, **spelled}


def _spell(kind: Any) -> dict[str, Any] | None:
    """The YAML of one arrow type as ``datasets.Features`` writes it; None where it has no such spelling."""
    pa, _ = arrow()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _spell(kind.value_type)
        word = "list" if pa.types.is_list(kind) else "large_list"
        if inner is None:
            return None
        for only in ("dtype", "struct"):
            if list(inner) == [only]:
                return {word: inner[only]}
        return {word: inner}
    if pa.types.is_struct(kind):
        fields = [_feature(f.name, f.type) for f in kind]
        return {"struct": fields} if all(f is not None for f in fields) else None
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or pa.types.is_decimal(kind):
        return None
    return {"dtype": _DTYPES.get(str(kind), str(kind))}


def _size(rows: int) -> str:
    return next((word for limit, word in _SIZES if rows < limit), "100M<n<1B")
