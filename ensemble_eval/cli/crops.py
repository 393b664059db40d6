"""`ensemble-eval crops`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import PATH
from ensemble_eval.cli.output import say


@click.command()
@click.argument("image", type=PATH)
@click.option("--out", type=PATH, default=Path("crops"), show_default=True, help="Folder for the pictures.")
def crops(image: Path, out: Path) -> None:
    """Write the 144 crops of IMAGE as 000.png … 143.png in the crop order, and a labelled contact sheet."""
    from ensemble_eval.contact_sheet import write_crops

    sheet = write_crops(image, out)
    say(f"144 crops and {sheet.name} written to {out}")
