"""Tables and JSON of sweeps and comparisons."""

from pipeline.experiments.compare import Comparison, explained
from pipeline.experiments.summary import Summary
from pipeline.tables import as_json, as_text, new_table


def summary_json(summary: Summary) -> str:
    """`{"rows": [{"what", "seeds", "test": {"mean", "deviation", "n"}, "train": {...} or null}], "notes", "made",
    "config", "trainings": [{"seed", "what", "key", "device", "seconds", "machine"}]}`, in percent."""
    return as_json(summary)


def summary_table(summary: Summary) -> str:
    """A row for each stage, the ensemble and what is beside them: mean and deviation over seeds; then the notes."""
    table = new_table("what", "test %", "train %", "seeds")
    for row in summary.rows:
        table.add_row(row.what, str(row.test), str(row.train or "-"), f"{row.test.n}: {_listed(row.seeds)}")
    return "\n".join([as_text(table), "mean ± deviation of a sample, over seeds", *summary.notes])


def comparison_json(comparison: Comparison) -> str:
    """`{"differences": [{"what", "against", "seeds", "a", "b", "difference", "interval", "verdict"}], "settings",
    "notes"}`, in percent and points; a and b as `{"mean", "deviation", "n"}`, interval as `{"low", "high"}` or null;
    against is what a is of the same runs, "" where they are others; settings are those that differ."""
    rows = [
        {
            "what": one.what,
            "against": one.against,
            "seeds": one.seeds,
            "a": one.a,
            "b": one.b,
            "difference": one.difference,
            "interval": one.interval,
            "verdict": one.verdict,
        }
        for one in comparison.differences
    ]
    return as_json({"differences": rows, "settings": comparison.settings, "notes": comparison.notes})


def comparison_table(comparison: Comparison) -> str:
    """A row for each stage, the ensemble and what is beside them, what differs, and what the reader should know."""
    against = next((one.against for one in comparison.differences), "")
    sides = (f"{against} %", "%", "difference %") if against else ("A %", "B %", "B - A %")
    table = new_table("what", *sides, "95% interval", "pairs", "verdict")
    for one in comparison.differences:
        interval = f"{one.interval.low:+.2f} .. {one.interval.high:+.2f}" if one.interval else "-"
        cells = (str(one.a), str(one.b), f"{one.difference:+.2f}", interval, str(one.a.n), one.verdict)
        table.add_row(one.what, *cells)
    settings = [] if against else [f"A -> B: {', '.join(comparison.settings) or 'the same settings'}"]
    return "\n".join([as_text(table), explained(comparison), *settings, *comparison.notes])


def _listed(seeds: list[int]) -> str:
    """Seeds as "0..4" or "0, 1, 7"."""
    if len(seeds) > 2 and sorted(seeds) == list(range(min(seeds), max(seeds) + 1)):
        return f"{min(seeds)}..{max(seeds)}"
    return ", ".join(map(str, sorted(seeds)))
