"""transformers: each type of configuration, shrunk by the names of its fields, with an input.

No configuration is written by hand: fields are known by the names that the library gives them
(`hidden_size`, `num_hidden_layers`, …), sub-configurations are shrunk likewise, and what was shrunk
counts as a fit when a forward with a loss runs. Otherwise less is shrunk.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from benchmarks.zoo.specimen import (
    CLASSES,
    LARGEST,
    VOCABULARY,
    Specimen,
    UnbuildableError,
    distance,
    float_tensors,
    images,
    tokens,
    wave,
)
from torch import Tensor, nn

IMAGE = 64
# Heads, the most useful first: where there is none the bare model is taken.
HEADS = (
    "CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_CLASSIFICATION", "SPEECH_SEQ_2_SEQ",
    "CTC", "AUDIO_CLASSIFICATION", "VIDEO_CLASSIFICATION", "IMAGE_TEXT_TO_TEXT",
    "SEMANTIC_SEGMENTATION", "SEQUENCE_CLASSIFICATION", "DEPTH_ESTIMATION", "MULTIMODAL_LM",
)  # fmt: skip

COUNTS = {
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "depth",
         "decoder_layers", "num_decoder_layers", "num_encoder_layers", "encoder_num_layers",
         "decoder_num_layers", "e_layers", "num_hidden_groups", "num_blocks", "encoder_depth",
         "decoder_num_hidden_layers", "encoder_num_hidden_layers", "num_block_layers"), 2),
}  # fmt: skip
WORDS = {
    **dict.fromkeys(("vocab_size", "encoder_vocab_size", "decoder_vocab_size"), VOCABULARY),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_source_positions"), 512),
    **dict.fromkeys(("max_target_positions",), 128),
    "image_size": IMAGE,
}
WIDTHS = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "encoder_hidden_size",
         "decoder_hidden_size", "encoder_embed_dim", "decoder_embed_dim", "embedding_size",
         "word_embed_proj_dim", "projection_dim", "emb_dim", "conv_dim_size"), 64),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads",
         "decoder_attention_heads", "encoder_num_attention_heads", "num_key_value_heads",
         "decoder_num_attention_heads", "num_kv_heads", "decoder_num_key_value_heads"), 4),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "ffn_hidden",
         "feed_forward_size", "dim_feedforward", "encoder_intermediate_size", "mlp_dim",
         "decoder_intermediate_size", "n_inner", "block_ff_dim", "shared_expert_intermediate_size",
         "encoder_feedforward_dim", "decoder_feedforward_dim"), 128),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size"), 64),
    **dict.fromkeys(
        ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 32),
    **dict.fromkeys(
        ("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "d_kv",
         "attention_head_dim"), 16),
}  # fmt: skip
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
HEADS_KEPT = 2  # heads of the width that the library gives them: rotary sections fit that width
ATTEMPTS: tuple[Mapping[str, int], ...] = (
    {**COUNTS, **WORDS, **WIDTHS},
    {**COUNTS, **WORDS, "heads kept": HEADS_KEPT},
    {**COUNTS, **WORDS},
    {**COUNTS, "vocab_size": VOCABULARY},
    COUNTS,
    {},
)


def transformers_names() -> list[str]:
    """Return every type of model that has a configuration; those that are parts of others last."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    whole: set[str] = set()
    for head in HEADS:
        whole |= set(getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES"))
    return sorted(CONFIG_MAPPING_NAMES, key=lambda name: (name not in whole, name))


def build_transformers(name: str, count: int) -> Specimen:
    """Build one of transformers', with a batch of `count`. Raises UnbuildableError."""
    reasons: list[str] = []
    for kind, head in _classes(name):
        for small in ATTEMPTS:
            try:
                config = _shrunk(kind.config_class, small)
                with torch.device("meta"):
                    size = sum(p.numel() for p in kind(config).parameters())
                if size > LARGEST:
                    reasons.append(f"{kind.__name__}: {size / 1e6:.0f} million parameters")
                    break  # what is shrunk less is larger still
                model = kind(_shrunk(kind.config_class, small)).train()
                _without_cache(model)
            except Exception as error:  # this much shrinking does not suit it
                reasons.append(f"{kind.__name__}: {type(error).__name__}: {str(error)[:100]}")
                continue
            for batch, labels in _batches(model, head, count):
                try:
                    return _tried(Specimen(name, name, model, batch, call, labels))
                except Exception as error:  # not what it takes
                    reasons.append(f"{kind.__name__}: {type(error).__name__}: {str(error)[:100]}")
    raise UnbuildableError("; ".join(dict.fromkeys(reasons)) or "no model class")


def _without_cache(model: nn.Module) -> None:
    """Ask for no cache: training has no use for it, and hybrids cannot fill it in training."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "use_cache", False):
            config.use_cache = False


def call(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Return the model's own loss, or the distance of its first output from fixed targets."""
    output = model(**batch)
    loss = getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
        return loss
    found = float_tensors(output)
    if not found:
        raise ValueError("no output that requires a gradient")
    return distance(found)


def _tried(specimen: Specimen) -> Specimen:
    loss = specimen.loss_fn(specimen.model, specimen.batch)
    if not torch.isfinite(loss):
        raise ValueError(f"the loss is {float(loss)}")
    return specimen


def _classes(name: str) -> Iterator[tuple[Any, str]]:
    """Yield the model classes of a type, with the head that each has ("": none)."""
    import transformers
    from transformers.models.auto import modeling_auto

    found = []
    mappings = [(head, f"MODEL_FOR_{head}_MAPPING_NAMES") for head in HEADS]
    for head, mapping in [*mappings, ("", "MODEL_MAPPING_NAMES")]:
        named = getattr(modeling_auto, mapping).get(name)
        for one in (named,) if isinstance(named, str) else (named or ())[:1]:
            kind = getattr(transformers, one, None)
            if inspect.isclass(kind) and issubclass(kind, nn.Module):
                found.append((kind, head))
    yield from found or _unlisted(name)


def _unlisted(name: str) -> Iterator[tuple[Any, str]]:
    """Yield the models of a type that is only part of another's: by the configuration they take."""
    from transformers import PreTrainedModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[name]
    try:
        module = importlib.import_module(config.__module__.replace("configuration_", "modeling_"))
    except ImportError:
        return
    for kind in vars(module).values():
        own = inspect.isclass(kind) and issubclass(kind, PreTrainedModel)
        if own and kind.config_class is config and "forward" in vars(kind):
            yield kind, "CAUSAL_LM" if kind.__name__.endswith("ForCausalLM") else ""


def _shrunk(kind: Any, small: Mapping[str, int]) -> Any:
    """Return a configuration of `kind` with what `small` names made small, at every level."""
    return kind(**_changes(kind, small))


def _changes(kind: Any, small: Mapping[str, int]) -> dict[str, Any]:
    default = kind()
    changes: dict[str, Any] = {}
    for field, value in small.items():
        old = getattr(default, field, None)
        if isinstance(old, bool) or not isinstance(old, int):
            continue
        if field in COUNTS or old > value:
            changes[field] = min(old, value)
    if "vocab_size" in changes:
        for field, value in SPECIAL.items():
            old = getattr(default, field, None)
            if isinstance(old, int) and old >= VOCABULARY:
                changes[field] = value
    if small:
        changes.update(_stages(default, small))
    if "heads kept" in small:
        changes.update(_narrow(default))
    for field in getattr(kind, "sub_configs", {}):
        inner = getattr(default, field, None)
        if inner is not None and hasattr(inner, "to_dict"):
            changes[field] = type(inner)(**_changes(type(inner), small))
    return changes


def _narrow(config: Any) -> dict[str, int]:
    """Return two heads, each as wide as it is, and a model as wide as both."""
    heads = getattr(config, "num_attention_heads", None) or getattr(config, "n_head", None)
    hidden = getattr(config, "hidden_size", None) or getattr(config, "n_embd", None)
    if not isinstance(heads, int) or not isinstance(hidden, int):
        return {}
    width = getattr(config, "head_dim", None) or hidden // heads
    wanted = {
        **dict.fromkeys(("hidden_size", "n_embd"), HEADS_KEPT * width),
        **dict.fromkeys(("num_attention_heads", "n_head", "num_key_value_heads"), HEADS_KEPT),
        **dict.fromkeys(("intermediate_size", "n_inner"), 2 * HEADS_KEPT * width),
        **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts"), 4),
        **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
        "moe_intermediate_size": 64,
    }
    return {
        field: value
        for field, value in wanted.items()
        if isinstance(old := getattr(config, field, None), int) and old > value
    }


def _stages(config: Any, small: Mapping[str, int]) -> dict[str, Any]:
    """Shrink what has a value for each stage: one block a stage, and an eighth of the width."""
    changes: dict[str, Any] = {}
    for field in ("depths", "num_blocks_per_stage", "layers"):
        old = getattr(config, field, None)
        if isinstance(old, list | tuple) and all(isinstance(each, int) for each in old):
            changes[field] = [1] * len(old)
    if "hidden_size" in small:
        for field in ("hidden_sizes", "embed_dims", "dims"):
            old = getattr(config, field, None)
            if isinstance(old, list | tuple) and all(isinstance(each, int) for each in old):
                changes[field] = [max(16, each // 32 * 8) for each in old]
    return changes


# --- inputs --------------------------------------------------------------------------------------


def _batches(
    model: nn.Module, head: str, count: int
) -> Iterator[tuple[dict[str, Any], Tensor | None]]:
    """Yield inputs that the model may take, the likeliest first, with the labels of its loss."""
    accepted = set(inspect.signature(model.forward).parameters)
    main = getattr(model, "main_input_name", "input_ids")
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "input_ids": lambda: _text(model, accepted, count),
        "pixel_values": lambda: _pixels(model, count),
        "pixel_values_videos": lambda: _video(model, count, "pixel_values_videos"),
        "input_values": lambda: {"input_values": wave(count, 4000)},
        "input_features": lambda: _features(model, accepted, count),
    }
    both: dict[str, Any] = {}
    if {"input_ids", "pixel_values"} <= accepted:
        both = {**makers["input_ids"](), **makers["pixel_values"]()}
    singles = [main, *(key for key in makers if key in accepted and key != main)]
    inputs = [makers[key]() for key in singles if key in makers]
    if main == "pixel_values":
        inputs.append(_video(model, min(count, 4), "pixel_values"))
    if main == "input_values":
        inputs.append({"input_values": wave(count, 4000)[:, None]})
        inputs.append({"input_values": _spectrogram(model, count)})
    if main == "past_values":
        inputs.append({"past_values": _series(model, count)})
    if "grid_thw" in accepted:
        inputs.insert(
            0,
            _patches(
                model, "pixel_values" if "pixel_values" in accepted else "hidden_states", count
            ),
        )
    if main == "input_features" or "input_features" in accepted:
        given = makers["input_features"]()
        inputs.append({"input_features": given["input_features"].mT})
        inputs.append({"input_features": wave(8 * count, 400).reshape(count, 8, 400).mT[:, :80]})
    for given in [*inputs, *([both] if both else [])]:
        yield from _with_labels(model, head, given, accepted, count)


def _with_labels(
    model: nn.Module, head: str, given: dict[str, Any], accepted: set[str], count: int
) -> Iterator[tuple[dict[str, Any], Tensor | None]]:
    if "decoder_input_ids" in accepted and "decoder_input_ids" not in given:
        given = {**given, "decoder_input_ids": tokens(count, 16)}
    if "return_loss" in accepted:
        yield {**given, "return_loss": True}, None
    if "labels" in accepted:
        if head in ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM") and "input_ids" in given:
            ids = given["input_ids"]
            yield {**given, "labels": ids}, ids[:, 1:]
        elif head == "MASKED_LM" and "input_ids" in given:
            masked = torch.arange(given["input_ids"].shape[1]) % 4 == 1
            ids = torch.where(masked, given["input_ids"], -100)
            hidden = given["input_ids"].masked_fill(masked, 3)
            yield {**given, "input_ids": hidden, "labels": ids}, ids
        elif head in ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ"):
            rest = {key: value for key, value in given.items() if key != "decoder_input_ids"}
            ids = tokens(count, 16)
            yield {**rest, "labels": ids}, ids
            if "decoder_input_ids" in given:
                yield {**given, "labels": given["decoder_input_ids"]}, given["decoder_input_ids"]
        elif head == "CTC":
            yield {**given, "labels": 1 + tokens(count, 4) % 20}, None
        elif "CLASSIFICATION" in head:
            classes = int(getattr(model.config, "num_labels", 2))
            labels = torch.arange(count) % min(classes, CLASSES)
            yield {**given, "labels": labels}, labels
    yield given, None


def _text(model: nn.Module, accepted: set[str], count: int) -> dict[str, Any]:
    given: dict[str, Any] = {"input_ids": tokens(count, 32)}
    if "attention_mask" in accepted:
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    if "bbox" in accepted:
        given["bbox"] = torch.tensor([10, 10, 60, 30]).expand(count, 32, 4)
    return given


def _pixels(model: nn.Module, count: int) -> dict[str, Any]:
    size = _field(model, "image_size", IMAGE)
    both = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    channels = _field(model, "num_channels", 3)
    return {"pixel_values": images(count, both, channels if isinstance(channels, int) else 3)[0]}


def _video(model: nn.Module, count: int, name: str) -> dict[str, Any]:
    frames = _field(model, "num_frames", _field(model, "frames_per_clip", 8))
    pixels = _pixels(model, count)["pixel_values"]
    return {name: pixels[:, None].repeat(1, int(frames), 1, 1, 1)}


def _patches(model: nn.Module, name: str, count: int) -> dict[str, Any]:
    """Return images cut into 4 x 4 patches, one row a patch, with the grid of each image."""
    patch = int(_field(model, "patch_size", 14))
    channels = int(_field(model, "in_channels", _field(model, "in_chans", 3)))
    depth = int(_field(model, "temporal_patch_size", 2))
    large = images(count, (4 * patch, 4 * patch), channels)[0]
    rows = nn.functional.unfold(large, patch, stride=patch).mT.flatten(0, 1)
    return {name: rows.repeat(1, depth), "grid_thw": torch.tensor([[1, 4, 4]] * count)}


def _spectrogram(model: nn.Module, count: int) -> Tensor:
    """Return a spectrogram (count, time, features), as long as the model takes."""
    time, features = int(_field(model, "max_length", 100)), int(_field(model, "num_mel_bins", 80))
    return wave(count * features, time).reshape(count, features, time).mT


def _series(model: nn.Module, count: int) -> Tensor:
    """Return time series (count, time, channels)."""
    time, channels = (
        int(_field(model, "context_length", 32)),
        _field(model, "num_input_channels", 1),
    )
    return wave(count * channels, time).reshape(count, channels, time).mT


def _features(model: nn.Module, accepted: set[str], count: int) -> dict[str, Any]:
    """Return a spectrogram (count, features, time)."""
    features = int(_field(model, "num_mel_bins", 80))
    time = 2 * int(_field(model, "max_source_positions", 50))
    return {"input_features": wave(count * features, time).reshape(count, features, time)}


def _field(model: nn.Module, name: str, otherwise: Any) -> Any:
    """Return a field of the configuration, or of the first sub-configuration that has it."""
    config = model.config
    inner = [getattr(config, field, None) for field in getattr(type(config), "sub_configs", {})]
    for one in (config, *inner):
        value = getattr(one, name, None)
        if value is not None:
            return value
    return otherwise
