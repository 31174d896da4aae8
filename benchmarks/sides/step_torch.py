"""Torch side of `train_step`: the classifier's training step, optimised.

The training set is on the device as uint8, padded once; crop and flip are one
gather. Memory format channels_last, fused SGD. Does not import jax.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from benchmarks.harness import machine
from benchmarks.sides import torch_mix, torch_nets
from benchmarks.sides.workload import MEAN, STD, Workload


def make(
  *, device: str, modes: list[str], **fields: Any
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes a side of `train_step` with a call for each mode.

  Args:
    device: 'cpu' or 'cuda'.
    modes: each a dtype, 'float32' or 'bfloat16' (autocast), optionally with a
      comma and 'compiled' or 'max-autotune' (both torch.compile).
    **fields: fields of the `Workload`.
  """
  torch.set_num_threads(machine.cores())
  work = Workload(**fields)
  facts = check(work, device)
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision('high')
  torch.backends.cudnn.allow_tf32 = True
  arrays = work.arrays()
  images = torch.from_numpy(arrays['image'])
  # NHWC: padding starts with the last axis; channels get none.
  images = F.pad(images, (0, 0, *4 * [work.pad])).to(device)
  labels = torch.from_numpy(arrays['label']).long().to(device)
  calls = {mode: _make_call(work, mode, images, labels) for mode in modes}
  return calls, facts


def check(work: Workload, device: str) -> dict[str, Any]:
  """Returns the facts that both sides must agree in, in full float32."""
  net = _net(work, device)
  torch.set_float32_matmul_precision('highest')
  torch.backends.cudnn.allow_tf32 = False
  images, labels = map(torch.from_numpy, work.first_batch())
  logits = net(images.to(device).permute(0, 3, 1, 2))
  loss = F.cross_entropy(logits, labels.to(device))
  return {
    'parameters': sum(x.numel() for x in net.parameters()),
    'loss': loss.item(),
    'torch': torch.__version__,
  }


def _net(work: Workload, device: str) -> Any:
  net = torch_nets.create(work.model, work.classes)
  torch_nets.load(net, work.read_weights())
  return net.to(device, memory_format=torch.channels_last).train()


def _make_call(
  work: Workload, mode: str, images: Any, labels: Any
) -> Callable[[], Any]:
  """Returns a function that takes the next steps and waits for them."""
  dtype, _, compiler = mode.partition(', ')
  device = images.device
  net = _net(work, device)
  optimizer = torch.optim.SGD(
    net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True
  )
  mix = torch_mix.random_mix(np.random.default_rng(0))

  def loss(images: Any, own: Any, other: Any, lam: Any) -> Any:
    with torch.autocast(
      device.type, torch.bfloat16, enabled=dtype == 'bfloat16'
    ):
      logits = net(images)
    logits = logits.float()
    return lam * F.cross_entropy(logits, own) + (1 - lam) * F.cross_entropy(
      logits, other
    )

  augment = _augment(work, device)
  if compiler:
    how = 'default' if compiler == 'compiled' else compiler
    loss = torch.compile(loss, dynamic=False, mode=how)
    augment = torch.compile(augment, dynamic=False)
  orders = _orders(work, device)

  def step() -> Any:
    rows = next(orders)
    own = labels[rows]
    mixed, lam, partner = mix(augment(images, rows))
    lam = torch.full((), lam, device=device)
    optimizer.zero_grad(set_to_none=True)
    if compiler:
      torch.compiler.cudagraph_mark_step_begin()
    value = loss(mixed, own, own[partner], lam)
    value.backward()
    optimizer.step()
    return value.detach().clone()  # the next step may overwrite it

  def call() -> list[float]:
    return torch.stack([step() for _ in range(work.steps)]).tolist()

  return call


def _augment(work: Workload, device: Any) -> Callable[[Any, Any], Any]:
  """Returns crop, flip and normalisation: `[B, C, H, W]`, channels_last."""
  deviation = 255 * torch.tensor(STD, device=device)
  mean = torch.tensor(MEAN, device=device) * 255
  pixels = torch.arange(work.side, device=device)

  def augment(images: Any, rows: Any) -> Any:
    if not work.pad:
      return ((images[rows] - mean) / deviation).permute(0, 3, 1, 2)
    count = len(rows)
    start = torch.randint(2 * work.pad + 1, (2, count, 1), device=device)
    flip = torch.rand(count, 1, device=device) < 0.5
    column = torch.where(flip, work.side - 1 - pixels, pixels) + start[0]
    row = pixels + start[1]
    batch = images[rows[:, None, None], row[:, :, None], column[:, None]]
    return ((batch - mean) / deviation).permute(0, 3, 1, 2)

  return augment


def _orders(work: Workload, device: Any) -> Any:
  """Yields the example indices of each step, epoch after epoch."""
  left = torch.empty(0, dtype=torch.long, device=device)
  while True:
    while len(left) < work.batch_size:
      left = torch.cat([left, torch.randperm(work.examples, device=device)])
    yield left[: work.batch_size]
    left = left[work.batch_size :]
