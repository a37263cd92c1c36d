"""Numbers on their way from a device to the host, without a wait."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Transfer:
    """Vectors on their way to the host: one copy for each device, that nobody waits for."""

    def __init__(self, vectors: Sequence[Tensor]) -> None:
        """Start to send `vectors`, numbers of any type and any device."""
        self._sizes = [vector.numel() for vector in vectors]
        by_device: dict[torch.device, list[int]] = {}
        for position, vector in enumerate(vectors):
            by_device.setdefault(vector.device, []).append(position)
        self._arriving: list[tuple[list[int], Tensor, torch.cuda.Event | None]] = []
        for device, positions in by_device.items():
            wide = torch.float32 if device.type == "mps" else torch.float64
            joined = torch.cat([vectors[position].reshape(-1).to(wide) for position in positions])
            self._arriving.append((positions, *_sent(joined)))

    def ready(self) -> bool:
        """Whether all has arrived. Never waits."""
        return all(event is None or event.query() for _positions, _host, event in self._arriving)

    def arrived(self) -> list[list[float]]:
        """Return the values of each vector, after waiting for those still on their way."""
        values: list[list[float]] = [[] for _ in self._sizes]
        for positions, host, event in self._arriving:
            if event is not None:
                event.synchronize()
            numbers, start = host.tolist(), 0
            for position in positions:
                end = start + self._sizes[position]
                values[position] = numbers[start:end]
                start = end
        return values


def _sent(vector: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if vector.device.type != "cuda":
        return vector.cpu(), None
    host = torch.empty(vector.shape, dtype=vector.dtype, pin_memory=True)
    host.copy_(vector, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(vector.device))
    return host, event
