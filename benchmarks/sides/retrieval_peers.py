"""Torch side of `retrieval_step`: the text head's training step, optimised.

Written from the paper, which has no published code. The features are in memory,
sampling and loss are the same as in jaxretrieval. The miner is a Gram matrix
and a minimum, which is faster than `torch.cdist`, or pytorch-metric-learning's
BatchHardMiner. The step does not compute the metrics that ours reports.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from benchmarks.harness import machine
from benchmarks.sides.retrieval_data import features

METRIC_LEARNING = bool(importlib.util.find_spec('pytorch_metric_learning'))
FASTEST = 'fused Adam'  # fastest in torch, and least memory


class Feed(NamedTuple):
  """The training features, tensors `[N, ...]`."""

  image: Any
  text: Any
  caption: Any
  image_scale: float


class Head(torch.nn.Module):
  """Blocks of FC, dropout, ReLU and l2-norm; no norm after the last block."""

  def __init__(self, params: Mapping[str, Any], dropout: tuple[float, ...]):
    super().__init__()
    self.dropout = dropout
    self.blocks: Any = torch.nn.ModuleList()
    for i in range(len(dropout)):
      kernel, bias = (
        torch.from_numpy(np.array(params[f'block{i + 1}'][name]))
        for name in ('kernel', 'bias')
      )
      dim_in, dim_out = kernel.shape
      block = torch.nn.Linear(dim_in, dim_out)
      block.weight.data.copy_(kernel.T)
      block.bias.data.copy_(bias)
      self.blocks.append(block)

  def forward(self, x: Any) -> Any:
    """Maps texts `[B, Dt]` to `[B, Di]`."""
    for i, (block, rate) in enumerate(
      zip(self.blocks, self.dropout, strict=True)
    ):
      x = block(x)
      if rate:
        x = F.dropout(x, rate, self.training)
      x = torch.relu(x)
      if i < len(self.dropout) - 1:
        x = F.normalize(x, eps=1e-6)
    return x


def hardest(text: Any, image: Any, ids: Any, caption: Any) -> tuple[Any, Any]:
  """Returns index and validity `[B]` of the nearest image of another anchor."""
  scores = torch.addmm(image.square().sum(1)[None], text, image.T, alpha=-2)
  same = (ids[:, None] == ids) | (caption[:, None] == caption)
  least, index = scores.masked_fill_(same, torch.inf).min(1)
  return index, least < torch.inf


def m3l(text: Any, image: Any, negatives: tuple[Any, Any]) -> Any:
  """Returns equation 1 of the paper with rho 4, alpha 0.5 and 1."""
  index, valid = negatives
  least = 1e-6 * image.square().sum(1).mean()
  positive, to_image, to_text = (
    (text - other).square().sum(1) + least
    for other in (image, image[index], text[index])
  )
  losses = 0.5 * (positive / to_image) ** 4 + (positive / to_text) ** 4
  return torch.where(valid, losses, 0).sum() / valid.sum().clamp(min=1)


def loss(head: Head, image: Any, text: Any, ids: Any, caption: Any) -> Any:
  """Returns M3L of one batch with the hardest negatives."""
  x = head(text)
  with torch.no_grad():
    negatives = hardest(x, image, ids, caption)
  return m3l(x, image, negatives)


def loss_of_metric_learning(
  head: Head, image: Any, text: Any, ids: Any, caption: Any
) -> Any:
  """Returns M3L with pytorch-metric-learning's miner, which uses only ids."""
  del caption
  from pytorch_metric_learning import (  # pyright: ignore[reportMissingImports]
    distances,
    miners,
  )

  distance = distances.LpDistance(normalize_embeddings=False, power=2)
  miner = miners.BatchHardMiner(distance=distance)
  x = head(text)
  # A copy: passing the same tensor means that both sides are the same set.
  anchor, _, negative = miner(x.detach(), ids, image, ids.clone())
  # The miner omits anchors without a negative; here every anchor has one.
  valid = anchor == torch.arange(len(x), device=x.device)
  return m3l(x, image, (negative, valid))


def batch(feed: Feed, ids: Any, slot: int | None = None) -> Any:
  """Returns images, texts, image ids and caption ids of a batch.

  Each image has one of its captions: the one in `slot`, or a random one.
  """
  slots = torch.randint(feed.text.shape[1], ids.shape, device=ids.device)
  if slot is not None:
    slots.fill_(slot)
  image = feed.image[ids].float() / feed.image_scale
  return image, feed.text[ids, slots].float(), ids, feed.caption[ids, slots]


def make_steps(
  feed: Feed,
  head: Head,
  optimizer: Any,
  loss: Callable[..., Any],
) -> Callable[[np.ndarray], Any]:
  """Returns a function that takes K steps, one for each row of `[K, B]`."""

  def steps(block: np.ndarray) -> list[float]:
    losses = []
    for ids in torch.from_numpy(block).to(feed.image.device):
      optimizer.zero_grad(set_to_none=True)
      # Lets a compiled loss overwrite the results of the previous step.
      torch.compiler.cudagraph_mark_step_begin()
      value = loss(head, *batch(feed, ids))
      value.backward()
      optimizer.step()
      losses.append(value.detach().clone())
    return torch.stack(losses).tolist()

  return steps


def make_products(head: Head, size: int, steps: int) -> Callable[[], None]:
  """Returns a call that computes only the matrix products of the steps."""
  pairs = []
  for i, block in enumerate(head.blocks):
    dim_out, dim_in = block.weight.shape
    weight = block.weight.detach()
    x, dy = (
      torch.randn(size, dim, device=weight.device) for dim in (dim_in, dim_out)
    )
    pairs += [(x, weight.T), (dy.T, x)] + [(dy, weight)] * (i > 0)
  pairs += [(dy, dy.T)]  # mining
  outs = [a @ b for a, b in pairs]

  def products() -> None:
    for _ in range(steps):
      for (a, b), out in zip(pairs, outs, strict=True):
        torch.mm(a, b, out=out)
    if outs[0].is_cuda:
      torch.cuda.synchronize()

  return products


def make_feed(
  arrays: Mapping[str, np.ndarray], image_scale: float, device: str = 'cpu'
) -> Feed:
  """Returns the features of `retrieval_data` as tensors."""
  torch.set_num_threads(machine.cores())
  image, text, caption = (
    torch.from_numpy(arrays[name]).to(device)
    for name in ('image', 'text', 'caption')
  )
  return Feed(image, text, caption.long(), image_scale)


def make(
  *,
  device: str,
  images: int,
  batch_size: int,
  steps: int,
  weights: str,
  dropout: tuple[float, ...],
  adam: dict[str, Any],
  every: bool,
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes the side of `retrieval_step`: a call for each variant of the step.

  Args:
    device: 'cpu' or 'cuda'.
    images: size of the random training set.
    batch_size: texts per step.
    steps: steps per call.
    weights: file with the parameters, 'block1/kernel' etc., and 'image_scale'.
    dropout: dropout rate after each block.
    adam: options of torch.optim.Adam.
    every: whether to add the slower variants, and the products alone.
  """
  with np.load(weights) as file:
    flat = dict(file)
  torch.set_float32_matmul_precision('high')  # as jax has it on a GPU
  scale = float(flat.pop('image_scale'))
  feed = make_feed(features(images), scale, device)
  params: dict[str, Any] = {}
  for name, array in flat.items():
    block, _, field = name.partition('/')
    params.setdefault(block, {})[field] = array

  def batches_of_ids() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
      order = rng.permutation(images)
      for start in range(0, images - batch_size + 1, batch_size):
        yield order[start : start + batch_size]

  def call(loss: Callable[..., Any], **how: Any) -> Callable[[], Any]:
    head, batches = Head(params, dropout).to(device), batches_of_ids()
    optimizer = torch.optim.Adam(head.parameters(), **adam, **how)
    take = make_steps(feed, head, optimizer, loss)
    return lambda: take(np.stack([next(batches) for _ in range(steps)]))

  calls = {FASTEST: call(loss, fused=True)}
  if METRIC_LEARNING:
    calls['fused Adam, BatchHardMiner'] = call(
      loss_of_metric_learning, fused=True
    )
  if every:
    for mode in ['default'] + ['max-autotune'] * (device == 'cuda'):
      compiled = torch.compile(loss, dynamic=False, mode=mode)
      calls[f'fused Adam, compiled, {mode}'] = call(compiled, fused=True)
    calls['foreach Adam'] = call(loss, foreach=True)
    calls['default Adam'] = call(loss)
    head = Head(params, dropout).to(device)
    calls['products'] = make_products(head, batch_size, steps)
  return calls, {'torch': torch.__version__}
