"""Eight readers of different tastes: nearly all are better served by their own policy. Slow: minutes a seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.store import Store
from pipeline.tasks.truths.news_tastes import parse

pytestmark = pytest.mark.slow


def broken_of(store: Store, evaluation: str, side: str) -> float:
    """The share of a side's completions that are no headline."""
    rows = store.resolve(evaluation).rows("test")
    return sum(parse(row["prompt"], row[f"{side}_completion"]) is None for row in rows) / len(rows)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_readers_are_better_served_by_their_own(seed: int, tmp_path: Path) -> None:
    words = ["--config", "configs/news_likes.yaml", f"seed={seed}", f"data_dir={tmp_path}"]
    subprocess.run([sys.executable, "-m", "pipeline.readers", *words], check=True)
    store = Store(tmp_path)
    shared, record = (store.resolve(f"news-likes-{name}").manifest for name in ("evaluation", "readers"))
    readers = record.stats["readers"]
    gains = {r["reader"]: r["gold_over_shared"] for r in readers}
    print(json.dumps({"seed": seed, "shared": shared.stats["gold_score"]["difference"], "gains": gains}))
    assert shared.stats["gold_score"]["difference"]["low"] > 0
    assert len(readers) == 8
    assert sum(gain["low"] > 0 for gain in gains.values()) >= 7
    assert all(gain["high"] > 0 for gain in gains.values())
    assert sum(gain["value"] for gain in gains.values()) / 8 > 0.1
    assert all(r["same_texts"] < 0.5 for r in readers)
    # Nor is it gained by what is no headline: PPO goes there where its penalty is weaker or its base worse.
    assert broken_of(store, "news-likes-evaluation", "base") < 0.12
    for r in readers:
        assert broken_of(store, f"news-likes-{r['reader']}-evaluation", "policy") < 0.2
    doctor = [sys.executable, "-m", "pipeline", "doctor", "news-likes", "--root", str(tmp_path), "--json"]
    found = json.loads(subprocess.run(doctor, check=False, capture_output=True, text=True).stdout)["findings"]
    assert not {f["rule"] for f in found} & {"readers-alike", "readers-in-vain"}
    # The same command again has nothing to do, and says so without torch.
    code = "import sys, pipeline.readers as r; r.main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    again = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    assert "nothing to do" in again.stdout
