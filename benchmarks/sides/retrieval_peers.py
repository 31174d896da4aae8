"""The training step of the text head in torch, as fast as we could write it.

Ours, after the paper: it has no published code. The features lie in memory as
ours do, the same are drawn, the loss is the same formula. The miner is a Gram
matrix and a minimum, which is quicker than `torch.cdist`, or
pytorch-metric-learning's BatchHardMiner. The metrics that our step reports are
left out.
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
LEAST = 'fused Adam'  # the fastest of torch, and the least memory


class Feed(NamedTuple):
  """The training features, tensors `[N, ...]`."""

  image: Any
  text: Any
  caption: Any
  image_scale: float


class Head(torch.nn.Module):
  """FC, dropout, ReLU, l2-norm; none after the last block."""

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
  """The nearest image that is not the anchor's own: index and valid `[B]`."""
  scores = torch.addmm(image.square().sum(1)[None], text, image.T, alpha=-2)
  same = (ids[:, None] == ids) | (caption[:, None] == caption)
  least, index = scores.masked_fill_(same, torch.inf).min(1)
  return index, least < torch.inf


def m3l(text: Any, image: Any, negatives: tuple[Any, Any]) -> Any:
  """Equation 1 of the paper, rho 4, alpha 0.5 and 1, as jaxretrieval has it."""
  index, valid = negatives
  least = 1e-6 * image.square().sum(1).mean()
  positive, to_image, to_text = (
    (text - other).square().sum(1) + least
    for other in (image, image[index], text[index])
  )
  rows = 0.5 * (positive / to_image) ** 4 + (positive / to_text) ** 4
  return torch.where(valid, rows, 0).sum() / valid.sum().clamp(min=1)


def loss(head: Head, image: Any, text: Any, ids: Any, caption: Any) -> Any:
  """M3L of one batch with the hardest negatives."""
  x = head(text)
  with torch.no_grad():
    negatives = hardest(x, image, ids, caption)
  return m3l(x, image, negatives)


def loss_of_metric_learning(
  head: Head, image: Any, text: Any, ids: Any, caption: Any
) -> Any:
  """The same with pytorch-metric-learning's miner; it knows ids alone."""
  del caption
  from pytorch_metric_learning import (  # pyright: ignore[reportMissingImports]
    distances,
    miners,
  )

  distance = distances.LpDistance(normalize_embeddings=False, power=2)
  miner = miners.BatchHardMiner(distance=distance)
  x = head(text)
  # A copy: to the miner the same tensor says that the two sides are one.
  anchor, _, negative = miner(x.detach(), ids, image, ids.clone())
  # A row without a negative would be left out; here every row has one.
  valid = anchor == torch.arange(len(x), device=x.device)
  return m3l(x, image, (negative, valid))


def batch(feed: Feed, ids: Any, slot: int | None = None) -> Any:
  """Images, texts, image ids, caption ids; one caption of five, or `slot`."""
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
  """Returns a function that takes a step for each row of `[K, B]`."""

  def steps(block: np.ndarray) -> list[float]:
    losses = []
    for ids in torch.from_numpy(block).to(feed.image.device):
      optimizer.zero_grad(set_to_none=True)
      # To a compiled loss: what the step before gave may be overwritten.
      torch.compiler.cudagraph_mark_step_begin()
      value = loss(head, *batch(feed, ids))
      value.backward()
      optimizer.step()
      losses.append(value.detach().clone())
    return torch.stack(losses).tolist()

  return steps


def make_products(head: Head, size: int, steps: int) -> Callable[[], None]:
  """Returns the matrix products of the steps, and nothing else of them."""
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
  """The features of `retrieval_data` as tensors."""
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
  """The side of `benchmarks.retrieval_step`: a call for each way.

  Args:
    device: 'cpu' or 'cuda'.
    images: of the random training set.
    batch_size: of the step.
    steps: of one call.
    weights: the file of the parameters, by 'block1/kernel', and 'image_scale'.
    dropout: after each block.
    adam: the options of torch.optim.Adam.
    every: whether with what is not the fastest of torch, and the products.
  """
  with np.load(weights) as file:
    flat = dict(file)
  torch.set_float32_matmul_precision('high')  # as jax has it on a GPU
  scale = float(flat.pop('image_scale'))
  feed = make_feed(features(images), scale, device)
  params: dict[str, Any] = {}
  for name, array in flat.items():
    block, _, kind = name.partition('/')
    params.setdefault(block, {})[kind] = array

  def rows() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
      order = rng.permutation(images)
      for start in range(0, images - batch_size + 1, batch_size):
        yield order[start : start + batch_size]

  def call(loss: Callable[..., Any], **how: Any) -> Callable[[], Any]:
    head, batches = Head(params, dropout).to(device), rows()
    optimizer = torch.optim.Adam(head.parameters(), **adam, **how)
    take = make_steps(feed, head, optimizer, loss)
    return lambda: take(np.stack([next(batches) for _ in range(steps)]))

  calls = {LEAST: call(loss, fused=True)}
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
