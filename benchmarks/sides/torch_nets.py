"""Networks of jaxmix.classification in torch, loaded with our weights.

Written from the papers with the same structure as ours, so that the same
weights give the same loss.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
  """Returns a convolution without bias and with 'same' padding."""
  return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class PreActBlock(nn.Module):
  """BN-ReLU-conv twice; the shortcut branches off after the first BN-ReLU."""

  def __init__(self, inputs: int, outputs: int, stride: int):
    super().__init__()
    self.norm1 = nn.BatchNorm2d(inputs)
    self.shortcut = None
    if inputs != outputs or stride != 1:
      self.shortcut = conv(inputs, outputs, 1, stride)
    self.conv1 = conv(inputs, outputs, 3, stride)
    self.norm2 = nn.BatchNorm2d(outputs)
    self.conv2 = conv(outputs, outputs, 3)

  def forward(self, x: Any) -> Any:
    """Maps `[B, C, H, W]`."""
    active = F.relu(self.norm1(x), inplace=True)
    x = x if self.shortcut is None else self.shortcut(active)
    active = F.relu(self.norm2(self.conv1(active)), inplace=True)
    return x + self.conv2(active)


class PreActNet(nn.Module):
  """Stem, blocks, BN-ReLU, global average pooling, linear layer."""

  def __init__(
    self,
    classes: int,
    stem: int,
    stages: list[int],
    blocks: int,
    stem_stride: int,
  ):
    super().__init__()
    self.stem = conv(3, stem, 3, stem_stride)
    made, inputs = [], stem
    for stage, outputs in enumerate(stages):
      for i in range(blocks):
        stride = 2 if stage > 0 and i == 0 else 1
        made.append(PreActBlock(inputs, outputs, stride))
        inputs = outputs
    self.blocks: Any = nn.Sequential(*made)
    self.norm = nn.BatchNorm2d(inputs)
    self.head = nn.Linear(inputs, classes)

  def forward(self, images: Any) -> Any:
    """Maps images `[B, 3, H, W]` to logits `[B, classes]`."""
    x = F.relu(self.norm(self.blocks(self.stem(images))), inplace=True)
    return self.head(x.mean((2, 3)))

  def sources(self) -> dict[Any, str]:
    """Returns the flax name of every layer."""
    found: dict[Any, str] = {self.stem: 'Conv_0', self.norm: 'BatchNorm_0'}
    found[self.head] = 'Dense_0'
    for i, block in enumerate(self.blocks):
      name = f'PreActBlock_{i}'
      convs = [block.conv1, block.conv2]
      if block.shortcut is not None:
        convs.insert(0, block.shortcut)
      found |= {x: f'{name}/Conv_{j}' for j, x in enumerate(convs)}
      found[block.norm1] = f'{name}/BatchNorm_0'
      found[block.norm2] = f'{name}/BatchNorm_1'
    return found


def preact_resnet18(classes: int, width: int, stem_stride: int) -> PreActNet:
  """Returns PreAct-ResNet18 for small images (He et al., ECCV 2016)."""
  stages = [width * 2**stage for stage in range(4)]
  return PreActNet(classes, width, stages, 2, stem_stride)


def wide_resnet(
  classes: int, depth: int, width: int, stem_stride: int
) -> PreActNet:
  """Returns a WideResNet (Zagoruyko and Komodakis, BMVC 2016)."""
  stages = [16 * width * 2**stage for stage in range(3)]
  return PreActNet(classes, 16, stages, (depth - 4) // 6, stem_stride)


class Bottleneck(nn.Module):
  """Conv-BN three times: 1x1, 3x3 (with the stride, as in v1.5), 1x1."""

  def __init__(self, inputs: int, inner: int, stride: int):
    super().__init__()
    outputs = 4 * inner
    self.convs: Any = nn.ModuleList(
      [conv(inputs, inner, 1), conv(inner, inner, 3, stride)]
      + [conv(inner, outputs, 1)]
    )
    self.norms: Any = nn.ModuleList(
      map(nn.BatchNorm2d, (inner, inner, outputs))
    )
    self.shortcut = self.shortcut_norm = None
    if inputs != outputs or stride != 1:
      self.shortcut = conv(inputs, outputs, 1, stride)
      self.shortcut_norm = nn.BatchNorm2d(outputs)

  def forward(self, x: Any) -> Any:
    """Maps `[B, C, H, W]`."""
    y = F.relu(self.norms[0](self.convs[0](x)), inplace=True)
    y = F.relu(self.norms[1](self.convs[1](y)), inplace=True)
    y = self.norms[2](self.convs[2](y))
    if self.shortcut is not None:
      x = self.shortcut_norm(self.shortcut(x))  # pyright: ignore[reportOptionalCall]
    return F.relu(x + y, inplace=True)


class ResNet(nn.Module):
  """ResNet for images of 224 pixels (He et al., CVPR 2016)."""

  def __init__(self, classes: int, width: int, blocks: tuple[int, ...]):
    super().__init__()
    self.stem = conv(3, width, 7, 2)
    self.norm = nn.BatchNorm2d(width)
    made, inputs = [], width
    for stage, count in enumerate(blocks):
      inner = width * 2**stage
      for i in range(count):
        stride = 2 if stage > 0 and i == 0 else 1
        made.append(Bottleneck(inputs, inner, stride))
        inputs = 4 * inner
    self.blocks: Any = nn.Sequential(*made)
    self.head = nn.Linear(inputs, classes)

  def forward(self, images: Any) -> Any:
    """Maps images `[B, 3, H, W]` to logits `[B, classes]`."""
    x = F.relu(self.norm(self.stem(images)), inplace=True)
    x = self.blocks(F.max_pool2d(x, 3, 2, 1))
    return self.head(x.mean((2, 3)))

  def sources(self) -> dict[Any, str]:
    """Returns the flax name of every layer."""
    found: dict[Any, str] = {self.stem: 'Conv_0', self.norm: 'BatchNorm_0'}
    found[self.head] = 'Dense_0'
    for i, block in enumerate(self.blocks):
      convs, norms = [*block.convs], [*block.norms]
      if block.shortcut is not None:
        convs.append(block.shortcut)
        norms.append(block.shortcut_norm)
      name = f'Bottleneck_{i}'
      found |= {x: f'{name}/Conv_{j}' for j, x in enumerate(convs)}
      found |= {x: f'{name}/BatchNorm_{j}' for j, x in enumerate(norms)}
    return found


def resnet50(classes: int, width: int = 64) -> ResNet:
  """Returns ResNet-50 v1.5, 25.56M parameters with 1,000 classes."""
  return ResNet(classes, width, (3, 4, 6, 3))


FAMILIES = {
  'preact_resnet18': preact_resnet18,
  'wide_resnet': wide_resnet,
  'resnet50': resnet50,
}


def create(model: Mapping[str, Any], classes: int) -> Any:
  """Builds the network of `config.model` (without its dtype)."""
  fields = dict(model)
  return FAMILIES[fields.pop('name')](classes, **fields)


def load(net: Any, weights: Mapping[str, np.ndarray]) -> None:
  """Copies our weights into a network of this module.

  Args:
    net: a network that `create` returned.
    weights: weights by flax path, 'module/.../name'.

  Raises:
    ValueError: a weight is missing, unused, or has another shape.
  """
  names = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}
  left, filled = dict(weights), set()
  with torch.no_grad():
    for layer, source in net.sources().items():
      for ours, theirs in names.items():
        array = left.pop(f'{source}/{ours}', None)
        if array is None:
          continue
        # [H, W, in, out] -> [out, in, H, W], [in, out] -> [out, in]
        order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
        value = torch.from_numpy(array.transpose(order).copy())
        target = getattr(layer, theirs)
        if target.shape != value.shape:
          raise ValueError(
            f'{source}/{ours} has shape {tuple(value.shape)}, but torch '
            f'expects {tuple(target.shape)}'
          )
        target.copy_(value)
        filled.add(target)
  missing = [name for name, x in net.named_parameters() if x not in filled]
  if left or missing:
    raise ValueError(
      f'unused weights: {sorted(left)}; parameters without weights: {missing}'
    )
