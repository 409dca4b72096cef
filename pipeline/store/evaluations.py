"""Find the evaluation of a policy: a version knows what it was made from, not what was made from it."""

from __future__ import annotations

from pipeline.store.store import Store
from pipeline.store.version import Version


def newest_evaluation(store: Store, policy: Version) -> Version | None:
    """The newest evaluation of a policy, preferably by its own experiment; None where there is none."""
    own = policy.name.removesuffix("-policy") + "-evaluation"
    for name in sorted((n for n in store.names() if n.endswith("-evaluation")), key=lambda n: n != own):
        for version in store.versions(name)[::-1]:
            if any(p.role == "policy" and p.ref == policy.ref for p in version.manifest.parents):
                return version
    return None
