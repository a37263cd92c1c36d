"""torchvision and timm: what can be built, and how."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from benchmarks.zoo.specimen import (
    CLASSES,
    Specimen,
    UnbuildableError,
    distance,
    fitting,
    float_tensors,
    images,
)
from torch import Tensor, nn
from torch.nn import functional

SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 384)


def classify(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the cross-entropy of the first output, which holds a logit for each class."""
    (logits,) = float_tensors(model(batch[0]))
    return functional.cross_entropy(logits.flatten(1), batch[1])


def regress(model: nn.Module, batch: tuple[Any, ...]) -> Tensor:
    """Return the distance of all outputs from fixed targets."""
    return distance(float_tensors(model(*batch), most=8))


# --- torchvision ---------------------------------------------------------------------------------


def torchvision_sizes() -> dict[str, int]:
    """Return parameters by name of every builder but the quantised ones, which do not train."""
    from torchvision import models

    return {
        name: int(next(iter(models.get_model_weights(name))).meta["num_params"])
        for name in models.list_models()
        if not name.startswith("quantized")
    }


def ranked(members: Iterable[tuple[str, int, str]]) -> list[tuple[int, int, str]]:
    """Return (rank in its family by size, size, name) of (family, size, name) each, in order."""
    seen: Counter[str] = Counter()
    found = []
    for family, size, name in sorted(members):
        found.append((seen[family], size, name))
        seen[family] += 1
    return sorted(found)


def stem(name: str) -> str:
    return re.sub(r"[_\d].*", "", name)


def build_torchvision(name: str, count: int, least: int = 64) -> Specimen:
    """Build one of torchvision's, with `count` images of `least` pixels or more.

    Raises UnbuildableError.
    """
    from torchvision import models

    family = stem(name)
    fitting(int(next(iter(models.get_model_weights(name))).meta["num_params"]))
    module = models.get_model_builder(name).__module__
    if ".detection" in module:
        return _detector(name)
    if ".segmentation" in module:
        model = models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES)
        return Specimen(name, family, model, (images(2, (64, 64))[0],), regress)
    if ".optical_flow" in module:
        pair = images(4, (128, 128))[0].split(2)
        return Specimen(name, family, models.get_model(name, weights=None), pair, regress)
    if ".video" in module:
        return _video(name, family, count)
    if "image_size" in name or name.startswith(("vit", "maxvit")):
        return _sized_vit(name, family, count)
    if name.startswith(("googlenet", "inception")):
        model = models.get_model(name, weights=None, num_classes=CLASSES, init_weights=True)
        return _fitting(name, family, model, count, (96, 128, 160, 299))
    model = models.get_model(name, weights=None, num_classes=CLASSES)
    return _fitting(name, family, model, count, tuple(s for s in SIZES if s >= least))


def _sized_vit(name: str, family: str, count: int) -> Specimen:
    from torchvision import models

    size, options = (224, {"input_size": (224, 224)}) if "maxvit" in name else (64, {})
    if not options:
        patch = int(name.rsplit("_", 1)[1])
        size = 4 * patch
        options = {"image_size": size}
    model = models.get_model(name, weights=None, num_classes=CLASSES, **options)
    batch = images(count, (size, size))
    return Specimen(name, family, model, batch, classify, batch[1])


def _video(name: str, family: str, count: int) -> Specimen:
    from torchvision import models

    model = models.get_model(name, weights=None, num_classes=CLASSES)
    size = 224 if name.startswith("mvit") else 64
    pictures, labels = images(min(count, 2 if size == 224 else 4), (size, size))
    frames = 16 if size == 224 else 8
    clips = pictures[:, :, None] * torch.linspace(0.5, 1.0, frames)[:, None, None]
    return Specimen(name, family, model, (clips, labels), classify, labels)


def _detector(name: str) -> Specimen:
    from torchvision import models

    small = {} if name.startswith("ssd") else {"min_size": 128, "max_size": 160}
    model = models.get_model(name, weights=None, weights_backbone=None, **small)
    family = stem(name)
    pictures = images(2, (128, 128))[0]
    targets = [
        {
            "boxes": torch.tensor([[16.0, 16.0, 96.0, 96.0]]),
            "labels": torch.tensor([1]),
            "masks": torch.ones(1, 128, 128, dtype=torch.uint8),
            "keypoints": torch.tensor([[[float(20 + 4 * k), 40.0, 1.0] for k in range(17)]]),
        }
        for _ in pictures
    ]

    def loss_fn(model: nn.Module, batch: tuple[list[Tensor], list[dict[str, Tensor]]]) -> Tensor:
        return torch.stack(list(model(*batch).values())).sum()

    return Specimen(name, family, model, (list(pictures), targets), loss_fn)


# --- timm ----------------------------------------------------------------------------------------


def timm_families() -> dict[str, list[str]]:
    """Return every architecture by family: the module it is defined in and its name's stem."""
    import timm

    found: dict[str, list[str]] = {}
    for module in timm.list_modules():
        for name in timm.list_models(module=module):
            stem = re.sub(r"[\d_].*", "", name)
            found.setdefault(stem if stem == module else f"{module}/{stem}", []).append(name)
    return found


def timm_size(name: str) -> int | None:
    """Return the number of parameters without making them; None where it cannot be told so."""
    import timm

    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=CLASSES)
    except Exception:  # it computes with its values when it is made
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def build_timm(name: str, family: str, count: int, least: int = 64, size: int = 0) -> Specimen:
    """Build one of timm's, with `count` images as small as it takes, `least` pixels or more.

    `size`: its parameters, as far as known. Raises UnbuildableError, TooLargeError.
    """
    import timm

    fitting(size)
    native = int(timm.get_pretrained_cfg(name).input_size[-1])
    tried: list[str] = []
    for pixels in sorted({*(each for each in SIZES if least <= each < native), native}):
        for options in ({"img_size": pixels}, {}):
            if not options and pixels != native and _is_fixed(name):
                continue
            try:
                model = timm.create_model(name, num_classes=CLASSES, **options)
                return _fitting(name, family, model, count, (pixels,))
            except Exception as error:  # this size does not suit it; the reasons are kept
                tried.append(f"{pixels}: {type(error).__name__}: {str(error)[:80]}")
    raise UnbuildableError("; ".join(tried[-3:]))


def _is_fixed(name: str) -> bool:
    import timm

    return bool(timm.get_pretrained_cfg(name).fixed_input_size)


def _fitting(
    name: str, family: str, model: nn.Module, count: int, sizes: tuple[int, ...]
) -> Specimen:
    """Return the model with the smallest images that it takes."""
    problems = []
    for size in sizes:
        batch = images(count, (size, size), _channels(model))
        specimen = Specimen(name, family, model, batch, classify, batch[1])
        try:
            with torch.no_grad():
                output = _first(model(batch[0]))
            if output.flatten(1).shape[1] == CLASSES:
                return specimen
            problems.append(f"{size}: output {tuple(output.shape)}")
        except Exception as error:  # too small for it; the reasons are kept
            problems.append(f"{size}: {type(error).__name__}: {str(error)[:80]}")
    raise UnbuildableError("; ".join(problems[-3:]))


def _channels(model: nn.Module) -> int:
    first = next((each for each in model.modules() if isinstance(each, nn.Conv2d)), None)
    return first.in_channels if first is not None and first.in_channels in (1, 3) else 3


def _first(output: Any) -> Tensor:
    def walk(value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            for item in value:
                yield from walk(item)

    return next(walk(output))
