"""WebDataset's layout: tar archives in which the files of one sample share their name up to the first dot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensemble_eval.datasets.folders import IMAGE_SUFFIXES
from ensemble_eval.datasets.items import NO_LABEL, Dataset
from ensemble_eval.datasets.labels import resolve_labels
from ensemble_eval.datasets.tar import Index, Member, TarItem, read_index, read_texts
from ensemble_eval.errors import InputError, first_names

_LABELS = ("cls", "json")
_IN_JSON = ("label", "cls")
_MAX_LABEL_BYTES = 1 << 20


@dataclass
class _Sample:
    images: list[Member] = field(default_factory=list)
    labels: dict[str, Member] = field(default_factory=dict)


def open_webdataset(
    shards: Sequence[Path],
    class_names: Sequence[str],
    *,
    labelled: bool = True,
    first: Index | None = None,
) -> Dataset:
    """Read the samples of WebDataset's shards by their offsets; nothing is unpacked.

    An image's id is the shard's name without suffix, then the name of the image in the shard. Its label stands in
    `.cls`, or in `.json` as `label` or `cls`: a class index or a class name.

    Args:
        shards: tar archives that are not compressed.
        class_names: in index order.
        labelled: whether the labels in the shards count; otherwise the images have none yet.
        first: the index of the first shard, where it was read before.

    Raises:
        InputError: see `read_index`; two images of one key, an image without a label, or two shards of one name.
    """
    images: dict[str, Member] = {}
    texts: dict[str, str] = {}
    ignored: list[str] = []
    if len({path.stem for path in shards}) < len(shards):
        raise InputError(f"two shards of {shards[0].parent} have one name, so that their images could not be told")
    for path in shards:
        index = first if first is not None and path == shards[0] else read_index(path)
        samples = _samples(index)
        ignored += [f"{path.stem}/{name}" for name in index.ignored]
        with_image = {key: sample for key, sample in samples.items() if sample.images}
        if not with_image:
            raise InputError(f"the shard {path} holds no images; leave it out, or get it again")
        of_key = {key: _the_image(path, key, sample) for key, sample in with_image.items()}
        images |= {f"{path.stem}/{member.name}": member for member in of_key.values()}
        if labelled:
            found = _label_texts(path, with_image)
            texts |= {f"{path.stem}/{of_key[key].name}": text for key, text in found.items()}
    labels = resolve_labels(shards[0].parent, texts, class_names) if labelled else {}
    items = [TarItem(name, labels.get(name, NO_LABEL), images[name].stored) for name in sorted(images)]
    source = str(shards[0]) if len(shards) == 1 else f"{shards[0]} … {shards[-1].name}"
    layout = f"WebDataset, {len(shards)} shards"
    return Dataset(source, tuple(items), tuple(class_names), tuple(sorted(ignored)), layout)


def is_webdataset(index: Index) -> bool:
    """Whether an archive has labels beside images, by WebDataset's names."""
    return any(sample.images and sample.labels for sample in _samples(index).values())


def _samples(index: Index) -> Mapping[str, _Sample]:
    samples: dict[str, _Sample] = {}
    for member in index.members:
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        extension = extension.lower()
        if not stem:
            continue
        sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, _Sample())
        if f".{extension}" in IMAGE_SUFFIXES:
            sample.images.append(member)
        elif extension in _LABELS:
            sample.labels[extension] = member
    return samples


def _the_image(path: Path, key: str, sample: _Sample) -> Member:
    if len(sample.images) > 1:
        names = first_names([member.name for member in sample.images])
        raise InputError(f"the shard {path} has {len(sample.images)} images of the key {key} ({names}); keep one")
    return sample.images[0]


def _label_texts(path: Path, samples: Mapping[str, _Sample]) -> dict[str, str]:
    """The label of each key, as text."""
    if without := [key for key, sample in samples.items() if not sample.labels]:
        raise InputError(
            f"{len(without)} images of the shard {path} have neither .cls nor .json ({first_names(without)}); add "
            'them, or give `labels`, which are "none" for images without labels'
        )
    kinds = {key: next(kind for kind in _LABELS if kind in sample.labels) for key, sample in samples.items()}
    members = [samples[key].labels[kind] for key, kind in kinds.items()]
    found = dict(zip(kinds, read_texts(path, members, _MAX_LABEL_BYTES), strict=True))
    return {key: _label_text(path, key, kinds[key], text) for key, text in found.items()}


def _label_text(path: Path, key: str, kind: str, text: str) -> str:
    if kind == "cls":
        return text.strip()
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the shard {path}: {key}.json is no valid JSON; mend it") from error
    for name in _IN_JSON:
        label = described.get(name) if isinstance(described, dict) else None
        if isinstance(label, int | str) and not isinstance(label, bool):
            return str(label)
    raise InputError(
        f"the shard {path}: {key}.json has no class index or name as {' or '.join(_IN_JSON)}; mend it"
    )
