"""The competent script of the comparison on a GPU: torchvision's v2 functions there, float16, torch.compile."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from io import BytesIO
from itertools import islice

import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.transforms.v2 import functional as transforms

from benchmarks.pipeline import crops_of, normalised


class Script:
    """Decodes in threads, resizes and cuts on the device, and runs one compiled forward for all members.

    Args:
        networks: of one architecture, in eval mode; their weights are arguments of the compiled code.
        device: where all but decoding is done.
        dtype: of the networks and their input.
        batch: crops through a network at once; the last batch is padded, so that one shape is compiled.
        threads: that decode.
        compiler: torch.compile's backend.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        device: torch.device,
        dtype: torch.dtype,
        batch: int,
        threads: int,
        compiler: str,
    ) -> None:
        self._device, self._dtype, self._batch, self._threads = device, dtype, batch, threads
        ready = [network.to(device, dtype).to(memory_format=torch.channels_last) for network in networks]
        self._weights = [{**dict(one.named_parameters()), **dict(one.named_buffers())} for one in ready]
        # Without weights of its own: were they the first member's, it would be compiled apart from the others.
        skeleton = deepcopy(ready[0]).to("meta")

        def forward(weights: dict[str, Tensor], crops: Tensor) -> Tensor:
            return torch.softmax(functional_call(skeleton, weights, (crops,)).float(), dim=1)

        self._forward = torch.compile(forward, backend=compiler, dynamic=False)

    def run(self, files: Sequence[bytes], crops: int, models: int) -> int:
        """Score images, given as the bytes of their files; returns the passes of the answer.

        Raises:
            ValueError: the scores are no probabilities.
        """
        sums = self.scores(files, crops, models).sum(1)
        if float((sums - 1).abs().max()) > 0.01:
            raise ValueError("the script's scores do not add up to 1")
        return len(files) * crops * models

    @torch.inference_mode()
    def scores(self, files: Sequence[bytes], crops: int, models: int) -> Tensor:
        """The mean softmax of each image over its first crops and the first models, float32 [images, classes]."""
        weights = self._weights[:models]
        scores = torch.zeros(len(files), 0, device=self._device)
        for owners, batch in self._batches(files, crops):
            total = sum(self._forward(each, batch)[: len(owners)] for each in weights)
            assert isinstance(total, Tensor)
            if scores.shape[1] == 0:
                scores = torch.zeros(len(files), total.shape[1], device=self._device)
            rows = self._pinned(torch.tensor(owners)).to(self._device, non_blocking=True)
            scores.index_add_(0, rows, total)
        return scores / (crops * models)

    def _batches(self, files: Sequence[bytes], crops: int) -> Iterator[tuple[list[int], Tensor]]:
        """Full batches of crops, normalised, and the image that each belongs to."""
        waiting: list[Tensor] = []
        owners: list[int] = []
        for number, picture in enumerate(self._decoded(files)):
            waiting += islice(crops_of(picture.to(self._device, non_blocking=True)), crops)
            owners += [number] * crops
            while len(waiting) >= self._batch:
                yield owners[: self._batch], self._ready(waiting[: self._batch])
                del waiting[: self._batch], owners[: self._batch]
        if waiting:
            padding = [torch.zeros_like(waiting[0])] * (self._batch - len(waiting))
            yield owners, self._ready([*waiting, *padding])

    def _ready(self, crops: Sequence[Tensor]) -> Tensor:
        return normalised(torch.stack(list(crops)), self._dtype).contiguous(memory_format=torch.channels_last)

    def _decoded(self, files: Iterable[bytes]) -> Iterator[Tensor]:
        arriving = iter(files)
        with ThreadPoolExecutor(self._threads) as threads:
            pending: list[Future[Tensor]] = [
                threads.submit(self._decode, data) for data in islice(arriving, 2 * self._threads)
            ]
            while pending:
                yield pending.pop(0).result()
                pending += [threads.submit(self._decode, data) for data in islice(arriving, 1)]

    def _decode(self, data: bytes) -> Tensor:
        pixels: Tensor = transforms.pil_to_tensor(Image.open(BytesIO(data)).convert("RGB"))
        return self._pinned(pixels)

    def _pinned(self, tensor: Tensor) -> Tensor:
        """Where a GPU can copy it from while it computes."""
        return tensor.pin_memory() if self._device.type == "cuda" else tensor
