"""`ensemble-eval inspect`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import PATH, command


@command("ensemble-eval inspect googlenet-1378be20.pth")
@click.argument("file", type=PATH)
@click.option("--raw", is_flag=True, help="Take the raw weights where averaged ones are there too.")
def inspect(file: Path, raw: bool) -> None:
    """Say what a FILE of weights is and how it will be read.

    Prints format, architecture, outputs and preprocessing, what is missing, the accuracy that was published for
    such a file, and the entry of a manifest. FILE may also be a published name, such as torchvision:….
    """
    from ensemble_eval.cli.output import say
    from ensemble_eval.members.converting import inspect as inspected
    from ensemble_eval.members.imported import InputFormat, input_text
    from ensemble_eval.members.importers.published import published

    path = published(str(file)).weights
    said, missing = inspected(path, averaged=False if raw else None)
    options = "".join(f", {name} {value}" for name, value in said.options.items())
    order = "the classes in their order" if said.outputs is None else said.outputs
    outputs = f"{said.num_outputs}: {order}" if said.num_outputs is not None else "not known"
    say(f"file          {path}")
    say(f"format        {said.format}")
    say(f"architecture  {said.arch or 'not known'}{options}")
    say(f"outputs       {outputs}")
    # ImageNet's is what a state dict is taken to want; of a graph nothing is taken.
    pixels = said.input or (InputFormat.imagenet() if said.num_outputs is not None else None)
    say(f"input         {'not known' if pixels is None else input_text(pixels)}")
    say(f"published     {said.published or 'no accuracy is known for such a file'}")
    for label, sentences in (("note", said.notes), ("missing", missing or ["nothing"])):
        for sentence in sentences:
            say(f"{label:14}{sentence}")
    say(f'entry         [[members]] name = "{path.stem}", weights = "{file}"')
