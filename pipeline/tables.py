"""Tables for people and JSON for scripts, both as text."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec
from rich.console import Console
from rich.table import Table

from cache import MANIFEST
from pipeline.checked import Checked, Damage
from pipeline.evaluation import Evaluation, Scores
from pipeline.experiments.overview import Beside
from pipeline.experiments.seedstates import SeedState
from pipeline.gc import Garbage
from pipeline.planning import Outcome
from pipeline.progress import size
from pipeline.record import Accepted
from pipeline.repair import Repaired
from pipeline.room import OverBudget
from pipeline.runfolder import RunFolder
from pipeline.status import OtherBranch, StageStatus, Stored

BALANCED_BELOW = 0.9
"""Smallest over largest class below which balanced accuracy is shown."""
DAMAGE_SHOWN = 20
"""Damaged files of a store or stage that a table names."""
NUMBERS = (
    "stored",
    "bytes",
    "files",
    "written",
    "on disk",
    "device",
    "images/s",
    "time",
    "training",
    "epochs",
    "parameters",
)
"""Columns of numbers, beside those in percent."""
PLAIN_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""


def status_json(
    run: RunFolder,
    rows: Sequence[StageStatus],
    branches: Sequence[OtherBranch],
    stored: Stored,
    others: Sequence[Beside] = (),
    outcomes: Sequence[Outcome] = (),
    seeds: Sequence[SeedState] = (),
    over: OverBudget | None = None,
) -> str:
    """`{"stages": [{"j", "state", "test_accuracy", "input", "store_bytes", "reason"}], "policy", "stored_bytes",
    "unreadable": [...], "branches": [{"j", "path", "test_accuracy", "nbytes", "changes"}],
    "beside": [{"kind", "what", "state", "test_accuracy", "path", "reason"}], "seeds": [{"seed", "state", "trained",
    "stages", "test_accuracy", "path", "reason"}], "plan": [{"predicted", "measured"}],
    "over_budget": {"nbytes", "budget_bytes", "reason", "next"}}`: beside are refits, the network end to end, probes,
    transfers and a sweep, whose seeds follow; the plan is of trained stages, predicted as in plan.json, or null;
    over_budget is null where the folder holds no more than budget.disk."""
    return as_json(
        {
            "stages": [asdict(row) for row in rows],
            "policy": run.config.augment.rendering,
            "stored_bytes": stored.nbytes,
            "unreadable": stored.unreadable,
            "branches": [asdict(branch) for branch in branches],
            "beside": [asdict(one) for one in others],
            "seeds": [asdict(one) for one in seeds],
            "plan": outcomes,
            "over_budget": over and asdict(over),
        }
    )


def status_table(
    run: RunFolder,
    rows: Sequence[StageStatus],
    branches: Sequence[OtherBranch],
    stored: Stored,
    others: Sequence[Beside] = (),
) -> str:
    """The stages, what is trained beside them, then what else lies in the run folder."""
    table = new_table("stage", "state", "test %", "input", "stored", "reason")
    for row in rows:
        table.add_row(
            str(row.j),
            row.state,
            _percent(row.test_accuracy),
            row.input or "-",
            size(row.store_bytes) if row.store_bytes else "-",
            row.reason,
        )
    for one in others:
        table.add_row(one.what, one.state, _percent(one.test_accuracy), "-", "-", one.reason)
    total = f"all stores of the run folder, images and earlier branches included: {size(stored.nbytes)}"
    policy = f"augmentation past stage 0: {run.config.augment.rendering}"
    notes = [
        f"stage {one.j} also in {one.path}, test {one.test_accuracy:.2f}%, {size(one.nbytes)}: {'; '.join(one.changes)}"
        for one in branches
    ]
    damage = [*stored.unreadable, f"next: {run.command('verify')}"] if stored.unreadable else []
    return "\n".join([as_text(table), total, policy, *notes, *damage])


def evaluation_json(evaluation: Evaluation, accepted: Sequence[Accepted]) -> str:
    """`{"stages": [{"j", "top1", "top5"}], "ensemble": {"top1", "top5"}}`, in percent.

    And, where the last stage was refitted, `"refits": [{"head_width", "top1", "top5", "ensemble": {"top1", "top5"}}]`,
    where the network was trained end to end, `"end_to_end": {"top1", "top5"}`, where stale stages were accepted,
    `"accepted": [{"stage", "key", "differences"}]`, and where some of it is damaged, `"notes": [...]`.
    """
    stages = [{"j": j, **_tops(scores)} for j, scores in evaluation.stages.items()]
    again = [
        {"head_width": one.head_width, **_tops(one.scores), "ensemble": _tops(one.ensemble)}
        for one in evaluation.refits
    ]
    more = ({"refits": again} if again else {}) | ({"accepted": accepted} if accepted else {})
    notes = {"notes": evaluation.notes} if evaluation.notes else {}
    whole = {"end_to_end": _tops(evaluation.end_to_end)} if evaluation.end_to_end else {}
    return as_json({"stages": stages, "ensemble": _tops(evaluation.ensemble), **whole, **more, **notes})


def garbage_json(garbage: Sequence[Garbage], *, deleted: bool) -> str:
    """`{"deleted", "total_bytes", "garbage": [{"path", "kind", "why", "bytes"}]}`"""
    rows = [{"path": str(one.path), "kind": one.kind, "why": one.why, "bytes": one.nbytes} for one in garbage]
    return as_json({"deleted": deleted, "total_bytes": sum(one.nbytes for one in garbage), "garbage": rows})


def garbage_table(run: RunFolder, garbage: Sequence[Garbage], *, deleted: bool) -> str:
    """What is, or was, to be freed, and how much in all; where there is none, that."""
    if not garbage:
        return "nothing is to be freed"
    table = new_table("bytes", "what", "where", "why")
    for one in garbage:
        table.add_row(size(one.nbytes), one.kind, str(one.path.relative_to(run.path)), one.why)
    total = size(sum(one.nbytes for one in garbage))
    return "\n".join([as_text(table), f"{total} {'freed' if deleted else 'would be freed'}"])


def evaluation_table(run: RunFolder, evaluation: Evaluation) -> str:
    """Accuracy of every stage and of the ensemble, for imbalanced classes also balanced."""
    counts = [count for count in run.info.class_counts if count]
    is_balanced = min(counts) >= BALANCED_BELOW * max(counts)
    has_top5 = evaluation.ensemble.top5 is not None
    columns = ["stage", "top-1 %", *(["top-5 %"] if has_top5 else []), *([] if is_balanced else ["balanced %"])]
    table = new_table(*columns)
    for name, scores in [
        *((str(j), scores) for j, scores in evaluation.stages.items()),
        *((f"last stage, head {one.head_width}", one.scores) for one in evaluation.refits),
        ("ensemble", evaluation.ensemble),
        *((f"ensemble, last head {one.head_width}", one.ensemble) for one in evaluation.refits),
        *([("end to end", evaluation.end_to_end)] if evaluation.end_to_end else []),
    ]:
        cells = [scores.top1, *([scores.top5] if has_top5 else []), *([] if is_balanced else [scores.balanced])]
        table.add_row(name, *map(_percent, cells))
    return as_text(table)


def verification_json(rows: Sequence[Checked]) -> str:
    """`{"damaged": N, "checked": [{"what", "kind", "files", "nbytes", "recomputed", "damage", "note"}]}`, damage as a
    list of `{"file", "reason", "remedy"}`."""
    return as_json({"damaged": sum(len(row.damage) for row in rows), "checked": [asdict(row) for row in rows]})


def verification_table(rows: Sequence[Checked]) -> str:
    """Every store and stage with what is damaged of it, then the damaged files with their remedy, and the sum."""
    is_deep = any(row.recomputed or row.note for row in rows)
    table = new_table("what", "files", "stored", *(["computed again"] if is_deep else []), "damaged")
    for row in rows:
        again = [str(row.recomputed or "-")] if is_deep else []
        table.add_row(row.what, f"{row.files:,}", size(row.nbytes), *again, str(len(row.damage) or "-"))
    notes = [f"{row.what}: {row.note}" for row in rows if row.note]
    damage = [line for row in rows for line in _damage_lines(row)]
    return "\n".join([as_text(table), *notes, *damage, verification_sum(rows)])


def _damage_lines(row: Checked) -> list[str]:
    """The damaged files of a store or stage, and after those that have the same remedy that."""
    lines = [f"{row.what}:"] if row.damage else []
    for remedy in dict.fromkeys(found.remedy for found in row.damage):
        reasons = [f"  {_reason(row, found)}" for found in row.damage if found.remedy == remedy]
        more = f"  and {count(len(reasons) - DAMAGE_SHOWN, 'file')} more (--json lists them all)"
        lines += [*reasons[:DAMAGE_SHOWN], *([more] if len(reasons) > DAMAGE_SHOWN else []), f"next: {remedy}"]
    return lines


def _reason(row: Checked, found: Damage) -> str:
    """What is wrong with a file, its name said once."""
    name = found.file.removeprefix(f"{row.what}/")
    return found.reason if name in found.reason else f"{name}: {found.reason}"


def verification_sum(rows: Sequence[Checked]) -> str:
    """As in "checked: 6 stores, 2 stages, 1.2 MB; no damage"."""
    counts = {kind: sum(row.kind == kind for row in rows) for kind in ("store", "stage", "experiment")}
    counted = ", ".join(count(number, kind) for kind, number in counts.items() if number or kind != "experiment")
    damaged = sum(len(row.damage) for row in rows)
    outcome = f"{count(damaged, 'file')} damaged" if damaged else "no damage"
    return f"checked: {counted}, {size(sum(row.nbytes for row in rows))}; {outcome}"


def count(number: int, what: str) -> str:
    """As in "1 file", "2 files"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def repair_json(outcomes: Sequence[Repaired]) -> str:
    """`{"stores": [{"what", "put_back", "left"}]}`, left as `{file: reason}`."""
    return as_json({"stores": [asdict(outcome) for outcome in outcomes]})


def repair_text(outcomes: Sequence[Repaired]) -> str:
    """A line for each store that was damaged, and one for each file that still is."""
    lines = []
    for outcome in outcomes:
        left = f", {count(len(outcome.left), 'file')} left as before" if outcome.left else ""
        if MANIFEST in outcome.put_back:
            done = "written anew, since its manifest was lost; its chunks that were left agree"
        else:
            done = f"{count(len(outcome.put_back), 'file')} put back, byte for byte"
        lines.append(f"{outcome.what}: {done}{left}")
        lines += [f"{outcome.what}/{name}: {reason}" for name, reason in outcome.left.items()]
    return "\n".join(lines) or "no store is damaged"


def _tops(scores: Scores) -> dict[str, float | None]:
    return {"top1": scores.top1, "top5": scores.top5}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def new_table(*columns: str) -> Table:
    """An empty table; columns of numbers are aligned on the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        is_number = "%" in name or name in NUMBERS
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return table


def as_text(table: Table) -> str:
    """A table as wide as the terminal, or of PLAIN_WIDTH."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def as_json(content: object) -> str:
    """On one line."""
    return msgspec.json.encode(content).decode()
