"""Images from a data set, decoded and resized in worker threads ahead of the engine, in order."""

import warnings
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from ensemble_eval.crops import pixels, schemes
from ensemble_eval.datasets.items import Item
from ensemble_eval.engine.pool import ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, memory_errors_of
from ensemble_eval.errors import UnreadableImageError


def load_images(
    items: Iterable[tuple[int, Item]],
    scheme: int,
    *,
    bicubic: bool,
    workers: int,
    ahead: int,
    pinned: bool = False,
) -> Generator[ReadyImage | UnreadableImage, None, None]:
    """Yield every item in order, ready to be cut or as unreadable with its reason.

    Args:
        items: what to load, each with its position in the whole data set.
        scheme: the largest crop scheme that is needed.
        bicubic: resample bicubically.
        workers: threads; Pillow and torch release the interpreter's lock while they work.
        pinned: put pixels where a GPU can copy them from while it computes, as long as there is room.
        ahead: images that may be ready or under way before they are asked for; bounds the memory.
    """
    # Pillow warns of odd metadata and sizes; what matters of it is checked on decoding. The filter is set here
    # and not there because it belongs to the process, not to the worker that would set it.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    arriving = iter(items)
    pending: deque[Future[ReadyImage | UnreadableImage]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="load")
    try:
        while True:
            while len(pending) <= ahead and (item := next(arriving, None)) is not None:
                pending.append(executor.submit(load_image, *item, scheme, bicubic=bicubic, pinned=pinned))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        # Without waiting: a run that is told to stop has seconds, and a slow drive may take longer.
        executor.shutdown(wait=False, cancel_futures=True)


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
