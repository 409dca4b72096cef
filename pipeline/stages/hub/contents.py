"""The files of a published repository: a version's own, with its card, config and manifest in terms of the Hub."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pipeline.base.files import sha256_file
from pipeline.base.json_values import parse_json
from pipeline.modeling.portable import ADAPTER_KEYS, portable_adapter, portable_model, portable_tokenizer
from pipeline.sources.hub_repository import Files, size_of
from pipeline.stages.hub.artefacts import DATASETS, Artefact, Base
from pipeline.stages.merge import metrics_of
from pipeline.store.copies import KEY
from pipeline.store.dataset_card import card_splits, render_card
from pipeline.store.manifest import JsonDict, Manifest
from pipeline.store.model_card import OnHub, adapter_card
from pipeline.store.parquet import arrow
from pipeline.store.store import Store
from pipeline.store.version import ADAPTER_CONFIG, BASE_KEY, UNLISTED, config_digest

TOKENIZER_CONFIG = "tokenizer_config.json"
PENDING = "0" * 40
"""In place of a commit that is not made yet, where only sizes and places are asked for."""
PRIVATE_COLUMNS = ("note",)
"""Free texts of people beside their answers: they may name anybody. ``data export`` leaves them out too."""

_MODEL_FILES = {
    *("config.json", "generation_config.json", ADAPTER_CONFIG, "model.safetensors.index.json", "scoring.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "tokenizer.model", "chat_template.jinja"),
}


def contents(store: Store, artefact: Artefact, commits: Mapping[str, str]) -> Files:
    """All files of the repository that ``artefact`` becomes; its rows and weights are the version's own files.

    Args:
        commits: of the repositories that are published already, by name.
    Raises:
        StoreError: a file of the version cannot be read.
    """
    manifest = artefact.version.manifest
    files: dict[str, Path | bytes] = {
        f.path: artefact.version.path / f.path for f in manifest.files if _goes(artefact, f.path)
    }
    if artefact.type == "dataset":
        files |= {path: redacted(content) for path, content in files.items() if _has_private(content)}
    for path, portable in {TOKENIZER_CONFIG: portable_tokenizer, "config.json": portable_model}.items():
        if path in files:
            files[path] = _rewritten(artefact.version.path / path, portable)
    base = base_of(artefact, commits)
    if ADAPTER_CONFIG in files and base is not None:
        files[ADAPTER_CONFIG] = _adapter_config(artefact, base)
    raw = published_manifest(artefact, files)
    clean = Manifest.from_json(json.dumps(raw), artefact.version.where)
    files["README.md"] = (_card(store, artefact, clean, files, base) + _answers(artefact)).encode()
    files["manifest.json"] = (json.dumps(raw, ensure_ascii=False, indent=2) + "\n").encode()
    return files


def _answers(artefact: Artefact) -> str:
    lines = "".join(f"- {line}\n" for line in artefact.answers)
    return f"\n## Who answers for it\n\n{lines}" if lines else ""


def base_of(artefact: Artefact, commits: Mapping[str, str]) -> Base | None:
    """The base of a model, as it is or will be on the Hub."""
    base = artefact.refers.get("base")
    return artefact.hub_base if base is None else Base(base.repo, commits.get(base.repo))


def _goes(artefact: Artefact, path: str) -> bool:
    if artefact.version.manifest.kind in DATASETS:
        return path.endswith(".parquet")
    return path in _MODEL_FILES or ("/" not in path and path.endswith(".safetensors"))


def _has_private(content: Path | bytes) -> bool:
    _, pq = arrow()
    return any(name in PRIVATE_COLUMNS for name in pq.read_schema(content).names)


def redacted(shard: Path | bytes) -> bytes:
    """A Parquet file without what stands in :data:`PRIVATE_COLUMNS`; the columns stay, empty."""
    pa, pq = arrow()
    table = pq.read_table(shard)
    for name in PRIVATE_COLUMNS:
        if (at := table.schema.get_field_index(name)) >= 0:
            field = table.schema.field(at)
            table = table.set_column(at, field, pa.nulls(len(table), field.type))
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_content_defined_chunking=True, write_page_checksum=True)
    return out.getvalue()


def _adapter_config(artefact: Artefact, base: Base) -> bytes:
    """With the base's place on the Hub, and portable: versions that were made before it name every setting."""
    path = artefact.version.path / ADAPTER_CONFIG
    config = _json(path) | {BASE_KEY: base.repo, "revision": base.commit or PENDING}
    if config.keys() - ADAPTER_KEYS:
        peft: Any = importlib.import_module("peft")
        config = portable_adapter(config, peft.LoraConfig().to_dict())
    return _text(config)


def _rewritten(path: Path, portable: Callable[[JsonDict], JsonDict]) -> Path | bytes:
    """The file, unless it was made before this package wrote it so that earlier libraries read it."""
    config = _json(path)
    return path if (written := portable(config)) == config else _text(written)


def _json(path: Path) -> JsonDict:
    return cast("JsonDict", parse_json(path.read_text(encoding="utf-8")))


def _text(config: JsonDict) -> bytes:
    return (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def published_manifest(artefact: Artefact, files: Files) -> JsonDict:
    """The version's manifest for these files, with where its parents are on the Hub and no path of this machine.

    An absolute path becomes the file's name: what was read is told by its sha256, where it lay helps nobody.
    """
    raw = cast("JsonDict", parse_json(artefact.version.manifest.to_json()))
    raw["governance"] = {k: v for k, v in raw["governance"].items() if k != KEY}
    listed = {p: {"path": p, "sha256": _sha256(c), "bytes": size_of(c)} for p, c in sorted(files.items())}
    raw["files"] = [entry for path, entry in listed.items() if path not in UNLISTED]
    for split in raw["splits"].values():
        split["files"] = [listed[f["path"]] for f in split["files"]]
        split["bytes"] = sum(f["bytes"] for f in split["files"])
    config = files.get(ADAPTER_CONFIG)
    raw["portable"] = {ADAPTER_CONFIG: config_digest(json.loads(config))} if isinstance(config, bytes) else {}
    parents = {a.version.ref: {"repo": a.repo, "type": a.type, "tag": a.tag} for a in artefact.refers.values()}
    here = {"repo": artefact.repo, "type": artefact.type, "tag": artefact.tag, "parents": parents}
    return {**_without_places(raw), "hub": here}


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in cast("JsonDict", value).items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in cast("list[Any]", value)]
    if isinstance(value, str) and "\n" not in value and (os.path.isabs(value) or value.startswith("~/")):
        return os.path.basename(value.rstrip("/")) or value
    return value


def _sha256(content: Path | bytes) -> str:
    return sha256_file(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _card(store: Store, artefact: Artefact, manifest: Manifest, files: Files, base: Base | None) -> str:
    if artefact.type == "dataset":
        _, pq = arrow()

        def metadata(path: str) -> Any:
            content = files[path]
            return pq.read_metadata(content if isinstance(content, Path) else io.BytesIO(content))

        return render_card(manifest, card_splits(manifest, metadata), artefact.repo)
    version = artefact.version
    labels = artefact.refers["preferences"].version.manifest.stats if "preferences" in artefact.refers else None
    datasets = sorted(a.repo for a in artefact.refers.values() if a.type == "dataset")
    own_base = artefact.refers.get("base")
    license = own_base.version.manifest.governance.get("license") if own_base else None
    hub = OnHub(artefact.repo, base.repo if base else None, datasets, license)
    adapter = next((a for role, a in artefact.refers.items() if role in ("policy", "reward")), None)
    source = adapter.version if manifest.stage == "merge" and adapter is not None else version
    metrics = None if artefact.card == "base" else metrics_of(store, source)
    return adapter_card(manifest, metrics, "\n".join(store.lineage(version).draw()), artefact.card, labels, hub)
