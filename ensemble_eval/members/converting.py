"""From weights of any format that is recognised to ours, which describes itself; and what a file is."""

from dataclasses import replace
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import IMAGENET_1K, WNIDS, class_list
from ensemble_eval.members.described import describe
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import BACKGROUND_FIRST, GRAPH, Imported
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import save_weights


def inspect(path: Path, *, averaged: bool | None = None) -> tuple[Imported, list[str]]:
    """What a file of weights says about its member, and sentences, each of something that it does not say or hold.

    Args:
        path: of the file.
        averaged: which of raw and averaged weights is meant; None for the averaged where both are there.

    Raises:
        InputError: the file is damaged, or of no format that is known.
    """
    said = describe(path, averaged=averaged)
    missing = []
    if said.arch is None:
        missing.append("the architecture is none that is known; state `arch` and `input` in the manifest")
    elif said.arch == GRAPH:
        missing.append("the number of outputs, which is known when the graph runs")
    else:
        try:
            load_member(Member(path.name, weights=path, averaged=averaged), said.num_outputs or 1)
        except InputError as error:
            missing.append(str(error))
    if said.arch == GRAPH and said.input is None:
        missing.append("the preprocessing, which a graph does not say; state `input` in the manifest")
    elif said.arch is not None and said.input is None:
        missing.append(
            "the preprocessing is not in the file; ImageNet's is taken unless the manifest states `input`"
        )
    return said, missing


def convert(path: Path, out: Path, *, classes: str | Path | None = None, averaged: bool | None = None) -> Member:
    """Write weights of any format that is recognised as safetensors that describe themselves.

    Args:
        path: of the weights.
        out: the file to write; it must not be there.
        classes: a text file with one class per line; None for `imagenet-1k`, if the weights have 1000 outputs.
        averaged: which of raw and averaged weights to take; None for the averaged where both are there.

    Returns:
        The member that `out` describes.

    Raises:
        InputError: the weights cannot be read, are of no architecture that we build, or have another number of
            classes; or `out` exists or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out} already exists; choose another `out`")
    said = describe(path, averaged=averaged)
    if said.arch == GRAPH:
        raise InputError(
            f"{path} is {said.format}, which runs as it is and is not converted; name it in a manifest"
        )
    without_class = 1 if said.outputs == BACKGROUND_FIRST else 0
    member = Member(out.stem, weights=path, averaged=averaged)
    if said.num_outputs is None:
        raise InputError(f"{path} has no classifier that is known; state its architecture in a manifest")
    if classes is None and said.num_outputs - without_class != len(WNIDS):
        raise InputError(
            f"{path} has {said.num_outputs} outputs, which are not the 1000 classes of imagenet-1k; "
            "give `classes`, a text file with one class a line"
        )
    names = class_list(IMAGENET_1K if classes is None else classes)
    network = load_member(member, names.count + without_class)
    described = replace(member, weights=out, averaged=None)
    save_weights(out, network.state_dict(), described, names)
    return described
