"""Tables and JSON of transfers."""

from pipeline.bad_images import printable
from pipeline.experiments.folds import COMPONENTS
from pipeline.experiments.linear_transfer import Transfer
from pipeline.experiments.pool import SHOWN
from pipeline.progress import duration
from pipeline.tables import as_json, as_text, new_table


def transfer_json(record: Transfer) -> str:
    """The record as it is kept, with the rows asked for: `{"key", "data", "classes", "left_out", "images", "per_class",
    "splits", "seed", "device", "versions", "rows": [{"j", "key", "features", "components", "accuracy": {"mean",
    "deviation", "n"}, "by_split", "converged", "seconds"}], "skipped": [{"name", "reason"}]}`, in percent."""
    return as_json(record)


def transfer_table(record: Transfer) -> str:
    """A row for each depth, and what the reader should know."""
    table = new_table("features", "channels", "PCA", "accuracy %", "time")
    for row in record.rows:
        name = f"x_{row.j}" if row.j else "images"
        table.add_row(name, str(row.features), str(row.components), str(row.accuracy), duration(row.seconds))
    splits = f"{record.splits} splits" if record.splits > 1 else "1 split, so without a deviation"
    lines = [
        as_text(table),
        f"mean of the accuracies of {len(record.classes)} classes, {record.per_class} images of each to train on and "
        f"the others of {record.images:,} to test; ± deviation over {splits}",
    ]
    if any(row.components < COMPONENTS for row in record.rows):
        lines.append(f"PCA: {COMPONENTS}, but no more than channels or training images")
    if late := [row for row in record.rows if row.converged < record.splits]:
        shown = ", ".join(f"x_{row.j} in {record.splits - row.converged}" for row in late)
        lines.append(f"SAGA was stopped by scikit-learn's 100 passes: {shown} of {record.splits}")
    if record.left_out:
        lines.append(f"classes of too few images, left out: {', '.join(map(printable, record.left_out))}")
    if record.skipped:
        first = ", ".join(f"{printable(image.name)} ({image.reason})" for image in record.skipped[:SHOWN])
        more = f" and {len(record.skipped) - SHOWN:,} more" if len(record.skipped) > SHOWN else ""
        lines.append(f"damaged images, left out: {len(record.skipped):,}, {first}{more}")
    return "\n".join(lines)
