"""The networks of timm (https://github.com/huggingface/pytorch-image-models), an optional package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from hybridnet.errors import Fault, InputError
from hybridnet.model.backbone import Backbone, weights
from hybridnet.model.backbone.timm_networks import NUM_STAGES, create, download, require_known, survey
from hybridnet.settings import checked


class Timm(Backbone):
    """A network of timm without its head: what it has after its last feature map is left out, a last norm too.

    The stages are those of timm's `features_only` networks; of five the first, with stride 2, belongs to the stem.
    Networks whose parts follow each other (most of them) can be cut between the stages. The others, such as plain
    ViTs, whose maps have one stride, are applied as a whole: attention follows their end, `stage` 4.

    Args:
        name: of the network, as in `timm.list_models()`, with or without the tag of its weights. Never a place: a
            checkpoint that names `hf-hub:…` or `local-dir:…` must not make this project read from there.
        stem: `imagenet`; these networks have their own.
        pretrained: take the weights that timm has for this name.
        weights: a file or a run folder to take the weights from instead; null for none.
        freeze_batch_norm: BatchNorm keeps its statistics, scales and offsets; they are no parameters any more.
        output_stride: largest stride, for networks that can replace a stride by dilation; null for their own.

    The constructor reads no weights: `load_initial_weights` does.

    Shape:
        (B, 3, H, W) -> (B, C, h, w), C = channels[-1]. Some networks take images of one size only.

    Raises:
        InputError: if timm is not installed or does not have the network, or the network cannot do what is asked.
        ValueError: if a setting is out of range, or both pretrained and weights are given.
    """

    hint_for_small_images = "a network with a smaller stride: model.backbone.output_stride=8, where it can do that"

    @checked
    def __init__(
        self,
        *,
        name: str,
        stem: Literal["imagenet", "small"],
        pretrained: bool,
        weights: str | None,
        freeze_batch_norm: bool,
        output_stride: Literal[8, 16, 32] | None,
    ) -> None:
        super().__init__()
        require_known(name, pretrained=pretrained)
        if stem != "imagenet":
            raise ValueError(f"stem ({stem}): a network of timm has its own; set model.stem=imagenet")
        if pretrained and weights:
            raise ValueError("pretrained and weights both name initial weights; set model.pretrained=false")
        self.name, self.output_stride = name, output_stride
        self.pretrained, self.weights = pretrained, weights
        self.has_initial_weights = bool(pretrained or weights)

        self.network = create(name, output_stride)
        self._stages, self._is_rectified = survey(name, output_stride)
        widths = self.network.feature_info.channels()
        # Of a network that cannot be cut only the last counts.
        self.channels = tuple(widths[-len(self._stages) :] if self._stages else widths[-1:] * NUM_STAGES)
        self._published = {key for key, _ in self.named_parameters()}
        self._frozen = list(_freeze(self.network)) if freeze_batch_norm else None

    def forward(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        if not x.is_meta:
            return self._apply_stages(x, start=start, stop=stop)
        try:  # the experiment is being checked, and its image size with it
            return self._apply_stages(x, start=start, stop=stop)
        except AssertionError as error:
            size, cause = "×".join(map(str, x.shape[2:])), " ".join(str(error).split())
            height, width = self.network.pretrained_cfg["input_size"][1:]
            raise ValueError(
                f"image_size ({size}): {self.name} does not take it{f' ({cause})' if cause else ''}; "
                f"set data.image_size=[{height},{width}]"
            ) from error

    def _apply_stages(self, x: Tensor, *, start: int, stop: int | None) -> Tensor:
        if start == 0:
            self._require_size(x)
        if self._stages is None:
            for stage in {start, len(self.channels) if stop is None else stop} - {0}:
                self.require_stage(stage)
            return self._nchw(self.network(x)[-1]) if start == 0 else x
        x = x.permute(0, 2, 3, 1) if start > 0 and self._is_nhwc else x
        for names in self._stages[start:stop]:
            for name in names:
                x = self.network.get_submodule(name)(x)
        return self._nchw(x)

    def train(self, mode: bool = True) -> Timm:
        super().train(mode)
        for name in self._frozen or []:
            self.network.get_submodule(name).eval()
        return self

    def require_stage(self, stage: int) -> None:
        super().require_stage(stage)
        if self._stages is None and stage != len(self.channels):
            last = len(self.channels)
            raise ValueError(f"stage ({stage}): {self.name} cannot be cut between its stages; set model.stage={last}")

    def is_rectified(self, stage: int) -> bool:
        return self._is_rectified[-1 if self._stages is None else stage - 1]

    def insert_attention(self, attention: Callable[[int], nn.Module]) -> None:
        from timm.models.resnet import BasicBlock, Bottleneck

        blocks = [module for module in self.network.modules() if isinstance(module, BasicBlock | Bottleneck)]
        if not blocks or any(block.se is not None for block in blocks):
            why = "has attention in its residual blocks already" if blocks else "has no residual blocks of a ResNet"
            raise ValueError(
                f"placement: {self.name} {why}; set model.placement=top, or model.backbone.name to a ResNet, Wide "
                "ResNet or ResNeXt without attention, such as resnet18, resnet50d, resnext50_32x4d"
            )
        for block in blocks:
            last_norm = block.bn3 if isinstance(block, Bottleneck) else block.bn2
            block.se = attention(last_norm.num_features)  # comes after the last norm and before the addition

    def first_stages(self, num: int) -> list[nn.Module]:
        if self._stages is None:
            if num < len(self.channels):
                last = len(self.channels)
                raise ValueError(
                    f"freeze_stages ({num}): {self.name} cannot be cut between its stages; "
                    f"set trainer.freeze_stages={last} to freeze all of it"
                )
            return [self.network]
        return [self.network.get_submodule(name) for names in self._stages[:num] for name in names]

    def pretrained_parameter_names(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if name in self._published}

    def require_weights(self) -> None:
        if self.weights:
            weights.require_file(self.weights)

    def load_initial_weights(self) -> list[str]:
        if self.pretrained:
            state, source = download(self.name, self.output_stride), f"timm, {self.name}"
        elif self.weights:
            state, source = _read(self.weights), self.weights
        else:
            return list(self._frozen_norms())
        own = self.network.state_dict()
        state = {_own_name(name, own): value for name, value in state.items()}
        lines = weights.load_into(self.network, state, source=source)
        return [*lines, *self._preprocessing(), *self._frozen_norms()]

    def _frozen_norms(self) -> Iterator[str]:
        """What is frozen, and what is odd about it."""
        if self._frozen is not None:
            is_new = self._frozen and not (self.pretrained or self.weights)
            odd = ", with the statistics of a new network" if is_new else ""
            yield f"  model.backbone.freeze_batch_norm: {len(self._frozen)} BatchNorms are frozen{odd}"

    def _preprocessing(self) -> Iterator[str]:
        """How the pictures were made that timm's weights were trained with."""
        import timm

        cfg = timm.get_pretrained_cfg(self.name)
        if cfg is None or not cfg.has_weights:
            return
        mean, std, size = (",".join(f"{number:g}" for number in v) for v in (cfg.mean, cfg.std, cfg.input_size[1:]))
        yield f"  timm's weights of {self.name} expect data.mean=[{mean}] data.std=[{std}] data.image_size=[{size}]"

    def _require_size(self, images: Tensor) -> None:
        cfg = self.network.pretrained_cfg
        size = tuple(cfg["input_size"][1:])
        if cfg.get("fixed_input_size") and tuple(images.shape[2:]) != size:
            got = "×".join(map(str, images.shape[2:]))
            height, width = size
            raise ValueError(
                f"image_size ({got}): {self.name} takes images of {height}×{width} only; "
                f"set data.image_size=[{height},{width}] without data.progressive"
            )

    @property
    def _is_nhwc(self) -> bool:
        return getattr(self.network, "output_fmt", "NCHW") == "NHWC"

    def _nchw(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2) if self._is_nhwc else x


def _freeze(network: nn.Module) -> Iterator[str]:
    """Turn the scales and offsets of every BatchNorm into buffers; the names of these norms.

    As buffers they have no gradient whatever a trainer asks for, and keep their names in a checkpoint.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for key in ("weight", "bias"):
                parameter = getattr(module, key)
                delattr(module, key)
                module.register_buffer(key, None if parameter is None else parameter.detach())
            module.eval()
            yield name


def _own_name(name: str, own: dict[str, Tensor]) -> str:
    """The name here of a tensor of timm's full network (`stages.0.…`), or of an earlier run (`network.…`)."""
    name = name.removeprefix("network.")
    return next((key for key in (name, name.replace(".", "_", 1), f"model.{name}") if key in own), name)


def _read(source: str) -> dict[str, Tensor]:
    """The tensors of a file, or of the best model of a run folder.

    Raises:
        InputError: if the file is missing or damaged, or no state dict is found in it.
    """
    if not source.endswith(".safetensors"):
        return weights.read(source)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(Path(source))
    except (OSError, SafetensorError) as error:
        cause = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(Fault("unusable weights", f"model.backbone.weights={source}", cause)) from error
