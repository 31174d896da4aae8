"""Evaluator of accuracy and loss that reads the split in each evaluation."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmix.classification.evaluators import clean

_PIECE = 32  # examples that a thread reads at a time
_READ_AHEAD = 2  # batches


def make(
  predict: clean.Predict, source: Any, *, batch_size: int, mesh: Mesh
) -> clean.Evaluate:
  """Makes the evaluator of `clean` for a split that does not fit in memory.

  Args:
    predict: `(params, model_state, images uint8 [B, H, W, C]) -> logits`.
    source: has a length, `read(indices, epochs)`, which returns `image` and
      `label`, and `workers`, the number of threads that call it.
    batch_size: images per step; the last step is padded, and its padding is
      not counted.
    mesh: batches are split over its axis `'data'`.

  Returns:
    As `clean.make`, but `evaluate` returns only when all images are read.

  Raises:
    ValueError: `batch_size` is not a positive multiple of the device count.
  """
  clean.check_eval_batch_size(batch_size, mesh)
  by_row = NamedSharding(mesh, PartitionSpec('data'))
  count = len(source)

  @jax.jit
  def add(sums: Any, params: Any, model_state: Any, batch: Any) -> Any:
    logits = predict(params, model_state, batch['image'])
    new = clean.score(logits, batch['label'], batch['counted'])
    return jax.tree.map(jnp.add, sums, new)

  def evaluate(params: Any, model_state: Any) -> Callable[[], dict[str, float]]:
    sums = jax.device_put(dict.fromkeys(('top1', 'top5', 'loss'), 0.0))
    for rows in _batches(source, batch_size):
      batch = {
        name: jax.make_array_from_process_local_data(by_row, array)
        for name, array in rows.items()
      }
      sums = add(sums, params, model_state, batch)
    return lambda: clean.means(sums, count)

  return evaluate


def _batches(source: Any, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
  """Reads this process's examples of every batch, some batches ahead."""
  local = batch_size // jax.process_count()
  pieces = math.ceil(local / _PIECE)

  def read(start: int, stop: int) -> dict[str, np.ndarray]:
    index = np.arange(start, stop)
    rows = np.minimum(index, len(source) - 1)
    return source.read(rows, np.zeros_like(rows)) | {
      'counted': index < len(source)
    }

  with ThreadPoolExecutor(source.workers, 'evaluation') as pool:
    pending = deque()
    for step in range(math.ceil(len(source) / batch_size)):
      first = step * batch_size + jax.process_index() * local
      bounds = [first + part * local // pieces for part in range(pieces + 1)]
      pending.append(
        [pool.submit(read, *pair) for pair in itertools.pairwise(bounds)]
      )
      if len(pending) > _READ_AHEAD:
        yield _join(pending.popleft())
    while pending:
      yield _join(pending.popleft())


def _join(pieces: Any) -> dict[str, np.ndarray]:
  parts = [piece.result() for piece in pieces]
  return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
