"""Find what was made of a policy or an evaluation: a version knows what it was made from, not what of it."""

from __future__ import annotations

from pipeline.store.store import Store
from pipeline.store.version import Version


def newest_evaluation(store: Store, policy: Version) -> Version | None:
    """The newest evaluation of a policy, preferably by its own experiment; None where there is none."""
    return newest_made_of(store, policy, "policy", "evaluation")


def newest_loop(store: Store, policy: Version) -> Version | None:
    """The newest record of a loop that was written after this policy's round; None where there is none."""
    return newest_made_of(store, policy, "policy", "loop")


def newest_readers(store: Store, policy: Version) -> Version | None:
    """The newest record of readers in which this policy is shared, or a reader's own; None where there is none."""
    records = [version for name in store.names() if name.endswith("-readers") for version in store.versions(name)]
    made = [v for v in records if any(p.ref == policy.ref for p in v.manifest.parents)]
    return max(made, key=lambda version: version.manifest.created_at, default=None)


def newest_made_of(store: Store, version: Version, role: str, kind: str) -> Version | None:
    """The newest version named ``...-KIND`` that has ``version`` as its parent in ``role``; None without one."""
    own = f"{version.name.removesuffix(f'-{role}')}-{kind}"
    for name in sorted((n for n in store.names() if n.endswith(f"-{kind}")), key=lambda n: n != own):
        for made in store.versions(name)[::-1]:
            if any(p.role == role and p.ref == version.ref for p in made.manifest.parents):
                return made
    return None
