"""What a publication must have: a table of named requirements; and what its cards say of who answers for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.base.cli import as_called
from pipeline.governance.approvals import Approval, sign_off
from pipeline.governance.audit_log import Event
from pipeline.governance.consent import missing_consent
from pipeline.governance.gate import Missing, note_override
from pipeline.stages.hub import measured_limits
from pipeline.stages.hub.artefacts import Artefact, Plan
from pipeline.stages.hub.contents import PRIVATE_COLUMNS
from pipeline.statistics.spelling import escape_cell
from pipeline.store.manifest import JsonDict
from pipeline.texts.personal_data.count import count, over


def missing(plan: Plan, named: Artefact, asked: JsonDict) -> list[Missing]:
    """What the plan lacks of what is ``asked``; a requirement that this program does not know is lacking.

    Args:
        named: the artefact of the version that is to be published, to which the others belong.
    """
    lacking: list[Missing] = []
    for name, value in sorted(asked.items()):
        if name in REQUIREMENTS:
            lacking += REQUIREMENTS[name](plan, named, value)
        else:
            what = f"{name} is required, which this program does not know"
            lacking.append(Missing(what, "upgrade: pip install -U rlhf-pipeline"))
    return lacking


def needs_sign_off(artefact: Artefact, named: Artefact) -> bool:
    """Whether an artefact needs a sign-off of its own: the one that was named, and what people's choices made.

    A base and prompts that go with a policy hold no choice. A merged model is computed from the adapter that goes
    with it, and was compared with it.
    """
    manifest = artefact.version.manifest
    if manifest.stage == "merge":
        return artefact is named or _adapter_of(artefact) is None
    return artefact is named or manifest.stage in ("ppo", "reward") or manifest.kind == "preferences"


def _adapter_of(merged: Artefact) -> Artefact | None:
    return next((a for role, a in merged.refers.items() if role in ("policy", "reward")), None)


def _sign_off(plan: Plan, named: Artefact, _: Any) -> Iterator[Missing]:
    for artefact in plan.artefacts:
        if needs_sign_off(artefact, named) and isinstance(why := sign_off(plan.store, artefact.version), str):
            ref = f"{artefact.version.name}@{artefact.tag}"
            yield Missing(why, f'{as_called("pipeline approve")} {ref} --by NAME --note "..."')


def _consent(plan: Plan, named: Artefact, _: Any) -> Iterator[Missing]:
    return missing_consent(plan.store, named.version)


def personal_data(plan: Plan) -> Mapping[str, Counter[str]]:
    """The finds of personal data in each set of rows that goes, by its version; of columns that stay here none."""
    counts: dict[str, Counter[str]] = {}
    for artefact in plan.artefacts:
        if artefact.type == "dataset":
            counts[artefact.version.ref] = count(artefact.version.iter_all(), PRIVATE_COLUMNS)
    return counts


def _personal_data(plan: Plan, named: Artefact, limits: Any) -> Iterator[Missing]:
    for ref, counts in plan.personal_data.items():
        if exceeded := over(counts, limits):
            mend = f"{as_called('pipeline data scrub')} {ref}, then train on what it makes"
            yield Missing(f"personal data in {ref}: {', '.join(exceeded)}", mend)


def _screening(plan: Plan, named: Artefact, limit: Any) -> Iterator[Missing]:
    return measured_limits.screening(plan, limit)


def _fairness(plan: Plan, named: Artefact, limits: Any) -> Iterator[Missing]:
    return measured_limits.fairness(plan, limits)


REQUIREMENTS: Mapping[str, Callable[[Plan, Artefact, Any], Iterator[Missing]]] = {
    "consent": _consent,
    "fairness": _fairness,
    "personal_data": _personal_data,
    "screening": _screening,
    "sign_off": _sign_off,
}
"""By the key of the section ``governance``: what is missing, from the plan, what was named and the key's value."""


def write_who_answers(plan: Plan, override: Event | None) -> None:
    """Put on the artefacts' cards who signed them off, who overrode what, and on what basis rows go.

    A basis is noted in the audit log, without a name, as nobody gave one.
    """
    for artefact in plan.artefacts:
        adapter = _adapter_of(artefact) if artefact.version.manifest.stage == "merge" else None
        for signed in (artefact, adapter):
            approval = sign_off(plan.store, signed.version) if signed is not None else ""
            if isinstance(approval, Approval):
                artefact.answers.append(escape_cell(_signed(approval)))
        if (basis := plan.without_consent.get(artefact.version.ref)) is not None:
            event = note_override(plan.store, artefact.version, artefact.repo, "consent", basis, "")
            said = f"Holds answers of people who agreed to nothing, because: {basis} ({event.time})"
            artefact.answers.append(escape_cell(said))
        if override is not None:
            lacks, why = override.facts["missing"], override.facts["note"]
            artefact.answers.append(f"**Published against what was required**: {escape_cell(f'{lacks}')}.")
            artefact.answers.append(escape_cell(f"Because: {why} ({override.by}, {override.time})"))


def _signed(approval: Approval) -> str:
    note = f": {approval.note}" if approval.note else ""
    return f"{approval.ref} was signed off by {approval.by} at {approval.time}{note}"
