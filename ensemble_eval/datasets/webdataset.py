"""WebDataset's layout: tar archives in which the files of one sample share their name up to the first dot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensemble_eval.datasets.folders import IMAGE_SUFFIXES
from ensemble_eval.datasets.items import NO_LABEL, ByteRange, Dataset, RangeItem
from ensemble_eval.datasets.labels import resolve_labels
from ensemble_eval.datasets.tar import Index, read_index
from ensemble_eval.errors import InputError, first_names, refusing

_LABELS = ("cls", "json")
_IN_JSON = ("label", "cls")
_MAX_LABEL_BYTES = 1 << 20


@dataclass
class _Sample:
    """The names of what belongs together."""

    images: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def open_webdataset(
    shards: Sequence[Path], class_names: Sequence[str], *, labelled: bool, first: Index | None
) -> Dataset:
    """Read the samples of WebDataset's shards by their offsets; nothing is unpacked.

    An image's id is the shard's name without suffix, then the name of the image in the shard. Its label is in
    `.cls`, or in `.json` as `label` or `cls`: a class index or a class name.

    Args:
        shards: tar archives that are not compressed.
        class_names: in index order.
        labelled: whether the labels in the shards count; otherwise the images have none yet.
        first: the index of the first shard, where it was read before.

    Raises:
        InputError: a shard is damaged; two images of one key, an image without a label, or two shards of one name.
    """
    images: dict[str, ByteRange] = {}
    texts: dict[str, str] = {}
    ignored: list[str] = []
    if len({path.stem for path in shards}) < len(shards):
        raise InputError(f"two shards of {shards[0].parent} have one name, so that their images could not be told")
    for path in shards:
        index = first if first is not None and path == shards[0] else read_index(path)
        ignored += [f"{path.stem}/{name}" for name in index.ignored]
        samples = {key: sample for key, sample in _samples(index).items() if sample.images}
        if not samples:
            raise InputError(f"the shard {path} holds no images; leave it out, or get it again")
        for key, sample in samples.items():
            if len(sample.images) > 1:
                raise InputError(
                    f"the shard {path} has {len(sample.images)} images of the key {key} "
                    f"({first_names(sample.images)}); keep one"
                )
            images[f"{path.stem}/{sample.images[0]}"] = index.files[sample.images[0]]
        if labelled:
            texts |= _label_texts(path, index, samples)
    labels = resolve_labels(shards[0].parent, texts, class_names) if labelled else {}
    items = [RangeItem(name, labels.get(name, NO_LABEL), images[name]) for name in sorted(images)]
    source = str(shards[0]) if len(shards) == 1 else f"{shards[0]} … {shards[-1].name}"
    layout = f"WebDataset, {len(shards)} shards"
    return Dataset(source, tuple(items), tuple(class_names), tuple(sorted(ignored)), layout)


def is_webdataset(index: Index) -> bool:
    """Whether an archive has labels beside images, by WebDataset's names."""
    return any(sample.images and sample.labels for sample in _samples(index).values())


def _samples(index: Index) -> Mapping[str, _Sample]:
    samples: dict[str, _Sample] = {}
    for inner in index.files:
        folder, _, name = inner.rpartition("/")
        stem, _, extension = name.partition(".")
        extension = extension.lower()
        if not stem:
            continue
        sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, _Sample())
        if f".{extension}" in IMAGE_SUFFIXES:
            sample.images.append(inner)
        elif extension in _LABELS:
            sample.labels[extension] = inner
    return samples


def _label_texts(path: Path, index: Index, samples: Mapping[str, _Sample]) -> dict[str, str]:
    """The label of each image, as text."""
    if without := [key for key, sample in samples.items() if not sample.labels]:
        raise InputError(
            f"{len(without)} images of the shard {path} have neither .cls nor .json ({first_names(without)}); add "
            'them, or give `labels`, which are "none" for images without labels'
        )
    return {
        f"{path.stem}/{sample.images[0]}": _label_text(path, key, index, sample.labels)
        for key, sample in samples.items()
    }


def _label_text(path: Path, key: str, index: Index, labels: Mapping[str, str]) -> str:
    kind = next(kind for kind in _LABELS if kind in labels)
    stored = index.files[labels[kind]]
    if stored.size > _MAX_LABEL_BYTES:
        raise InputError(f"{path}: {labels[kind]} has more than {_MAX_LABEL_BYTES} bytes; is it a label?")
    with refusing(f"the archive {path} cannot be read", "check the path", OSError):
        data = stored.read()
    try:
        text = data.decode()
        described = json.loads(text) if kind == "json" else {}
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {labels[kind]} is not UTF-8 text; fix it") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the shard {path}: {key}.json is no valid JSON; fix it") from error
    if kind == "cls":
        return text.strip()
    for name in _IN_JSON:
        label = described.get(name) if isinstance(described, dict) else None
        if isinstance(label, int | str) and not isinstance(label, bool):
            return str(label)
    raise InputError(f"the shard {path}: {key}.json has no class index or name as {' or '.join(_IN_JSON)}; fix it")
