"""ResNet-18, -34 and -50 with torchvision's attribute names, so that its checkpoints load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from hybridnet.model import kn2row, winograd
from hybridnet.model.backbone import Backbone, weights
from hybridnet.settings import Count, Rate, checked


class ResNet(Backbone):
    """A residual network without its pooling and linear layer.

    Paper: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385. As in torchvision, the stride
    of a bottleneck is in its 3×3 convolution.

    Args:
        block: `basic` (two 3×3 convolutions) or `bottleneck` (1×1, 3×3, 1×1, four times as wide at the end).
        layers: number of blocks in each of the four stages.
        stem: `imagenet` (7×7 with stride 2, then max-pool; the map ends 32 times smaller than the image) or `small`
            (3×3 with stride 1, no max-pool; 8 times smaller), for pictures of 32 to 64 pixels.
        stochastic_depth: probability that training leaves out the last residual block for a picture, falling linearly
            to 0 at the first one. Paper: Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382.
            Deviations: of L blocks number l has (l - 1) / (L - 1) of the last one's rate, where the paper has l / L
            and its first block is left out too; each picture draws for itself, not the batch; what is kept is scaled
            up while training instead of down afterwards.
        pretrained: take the weights published at `pretrained_url`.
        pretrained_url: where the ImageNet weights of this architecture are.
        weights: a file or a run folder to take the weights from instead; null for none.

    The constructor reads no weights: `load_initial_weights` does.

    Shape:
        (B, 3, H, W) -> (B, C, h, w), C = channels[-1], h = H / 32 or H / 8, rounded up.

    Raises:
        ValueError: if a setting is out of range, or both pretrained and weights are given.
    """

    @checked
    def __init__(
        self,
        *,
        block: Literal["basic", "bottleneck"],
        layers: tuple[Count, Count, Count, Count],
        stem: Literal["imagenet", "small"],
        stochastic_depth: Rate,
        pretrained: bool,
        pretrained_url: str,
        weights: str | None,
    ) -> None:
        super().__init__()
        if pretrained and weights:
            raise ValueError("pretrained and weights both name initial weights; set model.pretrained=false")
        self.pretrained_url = pretrained_url if pretrained else None
        self.weights = weights
        self.has_initial_weights = bool(pretrained or weights)

        imagenet = stem == "imagenet"
        self.conv1 = Conv(3, 64, 7, stride=2) if imagenet else Conv(3, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        self.stem_stride = 4 if imagenet else 1

        block_class = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
        self.channels = tuple(width * block_class.expansion for width in (64, 128, 256, 512))
        inputs = (64, *self.channels[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block_class, inputs[i], 64 * 2**i, num_blocks=layers[i], stride=1 if i == 0 else 2) for i in range(4)
        )
        if stochastic_depth:
            _, *blocks = self._blocks()
            for number, block in enumerate(blocks, start=1):
                block.drop = StochasticDepth(stochastic_depth * number / len(blocks))

    def forward(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        if start == 0:
            # The same numbers and gradients as with the ReLU first, on a map of a quarter of the size.
            x = self.relu(self.maxpool(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4)[start:stop]:
            x = layer(x)
        return x

    def stride(self, stage: int) -> int:
        # All kernels are odd and padded on both sides alike: position i of a layer is centred at i times its stride.
        return self.stem_stride * 2 ** (stage - 1)

    def insert_attention(self, attention: Callable[[int], nn.Module]) -> None:
        for block in self._blocks():
            block.attention = attention(block.channels)

    def first_stages(self, num: int) -> list[nn.Module]:
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [self.conv1, self.bn1, *layers[:num]]

    def pretrained_parameter_names(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if ".attention." not in name}

    def require_weights(self) -> None:
        if self.weights:
            weights.require_file(self.weights)

    def load_initial_weights(self) -> list[str]:
        if self.pretrained_url:
            return weights.load_into(self, weights.download(self.pretrained_url), source=self.pretrained_url)
        if self.weights:
            return weights.load_into(self, weights.read(self.weights), source=self.weights)
        return []

    def _blocks(self) -> Iterator[BasicBlock | Bottleneck]:
        """The residual blocks, from the images on."""
        return (module for module in self.modules() if isinstance(module, BasicBlock | Bottleneck))


class Conv(nn.Conv2d):
    """A convolution without bias that keeps the map's size at stride 1, with He's initial weights from the outset.

    Paper: He et al., "Delving Deep into Rectifiers", arXiv:1502.01852; normal, by the fan out.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: int, *, stride: int = 1) -> None:
        super().__init__(channels, outputs, kernel_size, stride, kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride[0]
        if kn2row.is_faster(x, self.weight, stride=stride):
            return kn2row.kn2row(x, self.weight, stride=stride)
        if winograd.is_faster(x, self.weight, stride=stride):
            return winograd.winograd(x, self.weight)
        if kn2row.gradient_is_faster(x, self.weight, stride=stride):
            return kn2row.conv2d(x, self.weight, stride=stride)
        return super().forward(x)

    def reset_parameters(self) -> None:
        """Draw the weights."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; `attention` and `drop` are slots, empty in the published architecture."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.channels = width
        self.conv1 = Conv(inputs, width, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.attention: nn.Module = nn.Identity()
        self.drop: nn.Module = nn.Identity()
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.attention(self.bn2(self.conv2(y)))
        return F.relu(self.drop(y) + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut; slots as in BasicBlock."""

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.channels = self.expansion * width
        self.conv1 = Conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv(width, width, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = Conv(width, self.channels, 1)
        self.bn3 = nn.BatchNorm2d(self.channels)
        self.attention: nn.Module = nn.Identity()
        self.drop: nn.Module = nn.Identity()
        self.downsample = _shortcut(inputs, self.channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.attention(self.bn3(self.conv3(y)))
        return F.relu(self.drop(y) + self.downsample(x), inplace=True)


class StochasticDepth(nn.Module):
    """Leaves out a residual branch (B, C, H, W) for a picture with probability `rate`, and scales up what is kept."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = 1 - self.rate
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(kept).div_(kept)


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, width: int, *, num_blocks: int, stride: int) -> nn.Module:
    outputs = width * block.expansion
    first = block(inputs, width, stride=stride)
    return nn.Sequential(first, *(block(outputs, width, stride=1) for _ in range(num_blocks - 1)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(Conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))
