"""Decoded images by index: from their files each time, or once into shared memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ensemble_eval.crops import pixels, schemes
from ensemble_eval.datasets.items import Item
from ensemble_eval.errors import InputError, UnreadableImageError

_CHUNK_BYTES = 1 << 26


class ImageSource(Protocol):
    """Labelled images that can be decoded any number of times, from several processes."""

    @property
    def items(self) -> Sequence[Item]:
        """What the indices stand for."""

    def decode(self, index: int) -> Tensor:
        """The image as uint8 [3, H, W].

        Raises:
            UnreadableImageError: it cannot be decoded.
        """

    def validation_crop(self, index: int, size: int) -> Tensor:
        """What errors are counted on: uint8 [3, size, size].

        Raises:
            UnreadableImageError: as `decode`.
        """


@dataclass(frozen=True)
class ImageFiles:
    """Decodes from the file at each call."""

    items: Sequence[Item]

    def decode(self, index: int) -> Tensor:
        """See `ImageSource`."""
        return pixels.decode(self.items[index].read())

    def validation_crop(self, index: int, size: int) -> Tensor:
        """See `ImageSource` and `centre_crop`."""
        return centre_crop(self.decode(index), size)


class _Place(NamedTuple):
    chunk: int
    start: int
    height: int
    width: int


class DecodedImages:
    """Decodes everything once, in threads, into a few large tensors that loading processes share.

    Args:
        items: the images.
        threads: Pillow releases the interpreter's lock while it decodes.

    Raises:
        InputError: the shared memory does not hold them.
    """

    def __init__(self, items: Sequence[Item], threads: int) -> None:
        self.items = items
        self._chunks: list[Tensor] = []
        self._used = _CHUNK_BYTES
        with ThreadPoolExecutor(threads, thread_name_prefix="decode") as executor:
            # An image that cannot be decoded keeps its reason, so that both sources behave alike.
            try:
                self._places = [
                    outcome if isinstance(outcome, str) else self._store(outcome)
                    for outcome in executor.map(_decode_or_reason, items)
                ]
            except BaseException:
                # Told to stop: not after the thousands that are still waiting.
                executor.shutdown(wait=False, cancel_futures=True)
                raise

    def decode(self, index: int) -> Tensor:
        """See `ImageSource`; the tensor is a view of the shared memory: do not write to it."""
        place = self._places[index]
        if isinstance(place, str):
            raise UnreadableImageError(place)
        size = place.height * place.width * 3
        flat = self._chunks[place.chunk][place.start : place.start + size]
        return flat.view(place.height, place.width, 3).permute(2, 0, 1)

    def validation_crop(self, index: int, size: int) -> Tensor:
        """See `ImageSource` and `centre_crop`."""
        return centre_crop(self.decode(index), size)

    def _store(self, image: Tensor) -> _Place:
        _, height, width = image.shape
        if not self._chunks or self._used + image.numel() > len(self._chunks[-1]):
            self._chunks.append(_shared_bytes(max(_CHUNK_BYTES, image.numel())))
            self._used = 0
        place = _Place(len(self._chunks) - 1, self._used, height, width)
        self._used += image.numel()
        # Interleaved, as Pillow decodes: torchvision's resizing is twice as fast on it as on planes.
        self._chunks[-1][place.start : self._used].view(height, width, 3).copy_(image.permute(1, 2, 0))
        return place


def _decode_or_reason(item: Item) -> Tensor | str:
    try:
        return pixels.decode(item.read())
    except UnreadableImageError as error:
        return str(error)


def _shared_bytes(count: int) -> Tensor:
    try:
        chunk = torch.empty(count, dtype=torch.uint8)
        chunk.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except RuntimeError as error:
        raise InputError(
            f"the decoded images do not fit into shared memory ({error}); set cache_decoded = false, or make "
            "/dev/shm larger"
        ) from error
    return chunk


def centre_crop(image: Tensor, size: int) -> Tensor:
    """uint8 [3, H, W] -> uint8 [3, size, size]; at 224 the first of the 144 crops."""
    _, height, width = image.shape
    scale = round(size * schemes.SCALES[0] / schemes.CROP_SIZE)
    new_width, new_height = schemes.resized_size(width, height, scale)
    resized = pixels.resize(image, new_height, new_width)
    # Centred twice, as the crop is: the square in the image, then the view in the square.
    margin = schemes.centred_offset(scale, size)
    left = schemes.centred_offset(new_width, scale) + margin
    top = schemes.centred_offset(new_height, scale) + margin
    return resized[:, top : top + size, left : left + size]
