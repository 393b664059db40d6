"""Images from a data set, decoded and resized in worker threads ahead of the engine, in order."""

import contextlib
import itertools
import math
import re
import warnings
from collections.abc import Generator, Iterable, Iterator

from ensemble_eval.crops import pixels, schemes
from ensemble_eval.datasets.items import Item
from ensemble_eval.engine.pool import ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, memory_errors_of
from ensemble_eval.errors import UnreadableImageError
from ensemble_eval.evaluation.loaders import map_ahead

_SILENCES = itertools.count()


def load_images(
    items: Iterable[tuple[int, Item]],
    scheme: int,
    *,
    bicubic: bool,
    workers: int,
    ahead: int,
    ahead_bytes: float = math.inf,
    pinned: bool = False,
) -> Generator[ReadyImage | UnreadableImage, None, None]:
    """Yield every item in order, ready to be cut or as unreadable with its reason.

    Args:
        items: what to load, each with its position in the whole data set.
        scheme: the largest crop scheme that is needed.
        bicubic: resample bicubically.
        workers: threads; Pillow and torch release the interpreter's lock while they work (docs/speed.md).
        ahead: images that may be ready or under way before they are asked for.
        ahead_bytes: when the pixels of ready images take this much, no more are begun than one for each thread.
        pinned: put pixels where a GPU can copy them from while it computes, as long as there is room.
    """

    def load(item: tuple[int, Item]) -> ReadyImage | UnreadableImage:
        return load_image(*item, scheme, bicubic=bicubic, pinned=pinned)

    loaded = map_ahead(load, items, threads=workers, ahead=ahead, ahead_bytes=ahead_bytes, bytes_of=pixel_bytes)
    with pillow_silenced(), contextlib.closing(loaded):
        yield from loaded


def pixel_bytes(image: ReadyImage | UnreadableImage) -> int:
    """Memory that the pixels of a loaded image take."""
    return image.source.pixels.nbytes if isinstance(image, ReadyImage) else 0


@contextlib.contextmanager
def pillow_silenced() -> Iterator[None]:
    """Ignore Pillow's warnings of odd metadata and sizes in the block: what matters of it is checked on decoding.

    The filter belongs to the process, not to the worker that decodes. Its pattern has a number of its own, so
    that what is taken away afterwards is this block's filter and no other's, several runs at once included.
    """
    pattern = rf"PIL\.(?#{next(_SILENCES)})"
    warnings.filterwarnings("ignore", module=pattern)
    try:
        yield
    finally:
        added = ("ignore", None, Warning, re.compile(pattern), 0)
        # The caller may have put back other filters meanwhile, as `warnings.catch_warnings` does.
        with contextlib.suppress(ValueError):
            warnings.filters.remove(added)  # type: ignore[attr-defined]  # a list, though the stub says less


def load_image(
    position: int, item: Item, scheme: int, *, bicubic: bool, pinned: bool = False
) -> ReadyImage | UnreadableImage:
    """Read, decode and resize one image for the schemes up to `scheme`."""
    try:
        image = pixels.decode(item.read())
        _, height, width = image.shape
        source = pixels.prepare(image, schemes.plan(width, height, scheme), bicubic=bicubic)
    except UnreadableImageError as error:
        return UnreadableImage(item.id, str(error))
    return ReadyImage(position, item.id, item.label, _pinned(source, item.id) if pinned else source)


def _pinned(source: pixels.CropSource, image: str) -> pixels.CropSource:
    """Where the machine has no more memory to pin, the same source: copied more slowly, to the same pixels."""
    try:
        with memory_errors_of(image):
            return source.pinned()
    except OutOfDeviceMemoryError:
        return source
