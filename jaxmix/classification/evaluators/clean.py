"""Evaluator of accuracy and loss: each example of a split counts once."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Evaluate = Callable[[Any, Any], Callable[[], dict[str, float]]]
Predict = Callable[[Any, Any, jax.Array], jax.Array]
Change = Callable[[Any, Any, Mapping[str, jax.Array]], jax.Array]


def make(
  predict: Predict,
  examples: Mapping[str, np.ndarray],
  *,
  batch_size: int,
  mesh: Mesh,
  name: str = 'clean',
  change: Change = lambda params, model_state, batch: example(batch),
) -> Evaluate:
  """Makes an evaluator whose examples stay on the device.

  Args:
    predict: `(params, model_state, images [B, H, W, C]) -> logits`. The images
      are uint8 or what `change` returns, 0 to 255; or waveforms `[B, T]`.
    examples: `image` `[N, H, W, C]` or `audio` `[N, T]`, and `label` `[N]`;
      kept on the device.
    batch_size: examples per step, at most; the last step is padded, and its
      padding is not counted.
    mesh: batches are split over its axis `'data'`.
    name: of the evaluator, in errors.
    change: `(params, model_state, batch) -> images` to predict instead of the
      examples; the batch also has `label` and `index`, the positions in the
      split.

  Returns:
    `evaluate(params, model_state)`, which queues its work on the device and
    returns a function that waits for the results: `top1` and `top5` in [0, 1],
    the bounds `top1_low` and `top1_high` of Wilson's 95 % interval for a test
    set of this size, and `loss`, the mean cross entropy.

  Raises:
    ValueError: `batch_size` is not a positive multiple of the device count.
  """
  count = len(examples['label'])
  batch_size = bounded_batch_size(batch_size, count, mesh, name)
  data, batches = on_device(examples, batch_size, mesh)

  @jax.jit
  def add(sums: Any, params: Any, model_state: Any, data: Any, batch: Any):
    rows, counted = batch
    batch = {'index': rows} | {key: x[rows] for key, x in data.items()}
    logits = predict(params, model_state, change(params, model_state, batch))
    new = score(logits, batch['label'], counted)
    return jax.tree.map(jnp.add, sums, new)

  def evaluate(params: Any, model_state: Any) -> Callable[[], dict[str, float]]:
    sums = jax.device_put(dict.fromkeys(('top1', 'top5', 'loss'), 0.0))
    # A loop of calls, not a scan: see launch.train.step.
    for batch in batches:
      sums = add(sums, params, model_state, data, batch)
    return lambda: means(sums, count)

  return evaluate


def example(batch: Mapping[str, jax.Array]) -> jax.Array:
  """Returns the images or the waveforms of a batch."""
  return batch['audio'] if 'audio' in batch else batch['image']


def on_device(
  examples: Mapping[str, np.ndarray], batch_size: int, mesh: Mesh
) -> tuple[dict[str, jax.Array], list[tuple[jax.Array, jax.Array]]]:
  """Returns the examples, and `(index, counted)` of each batch of them."""
  index, counted = padded_index(len(examples['label']), batch_size)
  data = jax.device_put(dict(examples), NamedSharding(mesh, PartitionSpec()))
  by_row = NamedSharding(mesh, PartitionSpec('data'))
  return data, jax.device_put(list(zip(index, counted, strict=True)), by_row)


def padded_index(count: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the indices of each batch, int32 `[steps, B]`, and which count."""
  steps = math.ceil(count / batch_size)
  index = np.arange(steps * batch_size).reshape(steps, batch_size)
  return np.minimum(index, count - 1).astype(np.int32), index < count


def bounded_batch_size(
  batch_size: int, count: int, mesh: Mesh, name: str = 'clean'
) -> int:
  """Returns the batch size, or what `count` examples need if that is less.

  Raises:
    ValueError: the batch cannot be split over the devices.
  """
  if batch_size < 1 or batch_size % mesh.size:
    raise ValueError(
      f'config.evals.{name}.batch_size={batch_size} must be a positive '
      f'multiple of the {mesh.size} devices'
    )
  return min(batch_size, math.ceil(count / mesh.size) * mesh.size)


def means(sums: Mapping[str, jax.Array], count: int) -> dict[str, float]:
  """Returns the results from sums of `score` over examples; waits for them."""
  result = {
    name: float(value) / count for name, value in jax.device_get(sums).items()
  }
  low, high = wilson_interval(result['top1'], count)
  return result | {'top1_low': low, 'top1_high': high}


def wilson_interval(fraction: float, count: int) -> tuple[float, float]:
  """Returns the 95 % interval of a fraction of `count` independent examples.

  >>> [round(bound, 4) for bound in wilson_interval(0.8, 10_000)]
  [0.792, 0.8077]
  """
  z = 1.959964
  centre = fraction + z * z / (2 * count)
  variance = fraction * (1 - fraction) / count
  spread = z * math.sqrt(variance + (z / (2 * count)) ** 2)
  scale = 1 + z * z / count
  return (centre - spread) / scale, (centre + spread) / scale


def score(
  logits: jax.Array, label: jax.Array, counted: jax.Array
) -> dict[str, jax.Array]:
  """Returns sums over a batch: top-1 and top-5 hits, and cross entropies.

  Args:
    logits: `[B, C]`.
    label: int `[B]`.
    counted: bool `[B]`; False for padding.
  """

  def own(values: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, label[:, None], axis=1)

  losses = -own(jax.nn.log_softmax(logits.astype(jnp.float32)))[:, 0]
  # Ties count against the model: one that gives every class the same score has
  # learnt nothing. So does NaN, which comparisons do not rank. (The logits are
  # ranked, because their softmax rounds close ones to the same number.)
  rank = jnp.sum(logits >= own(logits), axis=1)
  rank = jnp.where(jnp.isnan(losses), jnp.inf, rank)
  return {
    'top1': jnp.sum(counted & (rank <= 1)).astype(jnp.float32),
    'top5': jnp.sum(counted & (rank <= 5)).astype(jnp.float32),
    'loss': jnp.sum(jnp.where(counted, losses, 0.0)),
  }
