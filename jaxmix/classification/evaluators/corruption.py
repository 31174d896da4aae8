"""Evaluator of the mean corruption error: 15 corruptions at 5 severities.

It is the unweighted mean of 75 errors, as is usual with CIFAR-10-C and
CIFAR-100-C: not divided by the errors of another network.
"""

import pathlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from jaxmix.classification.evaluators import clean
from jaxmix.classification.evaluators.corruptions import (
  CORRUPTIONS,
  SEVERITIES,
  corrupt,
)


def make(
  predict: clean.Predict,
  examples: Mapping[str, np.ndarray],
  *,
  batch_size: int,
  mesh: Mesh,
  source: str = '',
) -> clean.Evaluate:
  """Makes an evaluator of corrupted images.

  Args:
    predict: as in `clean.make`.
    examples: as in `clean.make`; square RGB images.
    batch_size: as in `clean.make`.
    mesh: as in `clean.make`.
    source: the folder of the published files, `gaussian_noise.npy` to
      `jpeg_compression.npy` and `labels.npy`, for the whole test split; empty:
      `examples` are corrupted in each evaluation, see `corruptions`.

  Returns:
    An evaluator like that of `clean.make`. Its results are fractions in [0, 1]:
    by its name the error of each corruption, a mean over five severities, and
    `mean_error`, the mean of all. Without `source` there is also
    `mean_error_but_frost`, because our frost is not the published one.

  Raises:
    ValueError: the batch size, the shape of the images or a published file is
      not as required.
    FileNotFoundError: a published file is missing.
  """
  clean.check_eval_batch_size(batch_size, mesh, 'corruption')
  _, side, width, channels = examples['image'].shape
  if channels != 3 or side != width or side % 16:
    raise ValueError(
      f'config.evals.corruption needs square RGB images with a side that is a '
      f'multiple of 16; the test images are {side}x{width}x{channels}'
    )
  published = read_published(pathlib.Path(source), examples) if source else {}
  count = len(examples['label'])
  data, batches = clean.on_device(examples, batch_size, mesh)
  # On the host as well, because the parts of other processes cannot be read.
  rows_of, _ = clean.padded_index(count, batch_size)
  by_row = NamedSharding(mesh, PartitionSpec('data'))
  levels = jax.device_put({s: np.int32(s) for s in SEVERITIES})

  @partial(jax.jit, static_argnums=0)
  def regenerate(name: str, severity: Any, data: Any, index: Any) -> jax.Array:
    return corrupt(name, severity, data['image'][index], index)

  @jax.jit
  def add(
    right: Any,
    params: Any,
    model_state: Any,
    images: Any,
    data: Any,
    batch: Any,
  ) -> jax.Array:
    index, counted = batch
    logits = predict(params, model_state, images)
    return right + clean.score(logits, data['label'][index], counted)['top1']

  def images_of(name: str, severity: int, step: int) -> jax.Array:
    if not published:
      return regenerate(name, levels[severity], data, batches[step][0])
    rows = (severity - 1) * count + rows_of[step]
    return jax.device_put(published[name][rows], by_row)

  def evaluate(params: Any, model_state: Any) -> Callable[[], dict[str, float]]:
    right = {}
    bar = tqdm(
      [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES],
      'corruptions',
      disable=None,
      leave=False,
      file=sys.stderr,
    )
    for name, severity in bar:
      total = jax.device_put(0.0)
      for step, batch in enumerate(batches):
        images = images_of(name, severity, step)
        total = add(total, params, model_state, images, data, batch)
      right[name, severity] = total
    return lambda: _errors(right, count, bool(published))

  return evaluate


def _errors(
  right: Mapping[tuple[str, int], jax.Array], count: int, published: bool
) -> dict[str, float]:
  hits = jax.device_get(dict(right))
  errors = {
    name: 1 - sum(float(hits[name, s]) for s in SEVERITIES) / 5 / count
    for name in CORRUPTIONS
  }
  result = {'mean_error': sum(errors.values()) / len(errors)}
  if not published:
    others = [error for name, error in errors.items() if name != 'frost']
    result['mean_error_but_frost'] = sum(others) / len(others)
  return result | errors


def read_published(
  folder: pathlib.Path, examples: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Opens the files of CIFAR-10-C or CIFAR-100-C as memory maps.

  Each holds the whole test split five times, once for each severity.

  Raises:
    ValueError: a file is broken or has another shape, or the labels differ.
    FileNotFoundError: a file is missing.
  """
  count, shape = len(examples['label']), examples['image'].shape[1:]
  files = {}
  for name in (*CORRUPTIONS, 'labels'):
    path = folder / f'{name}.npy'
    expected = (5 * count, *(() if name == 'labels' else shape))
    field = f'config.evals.corruption.source={str(folder)!r}'
    if not path.is_file():
      raise FileNotFoundError(
        f'{field} has no {path.name}; unpack CIFAR-10-C or CIFAR-100-C there, '
        'or leave the field empty to have the images regenerated'
      )
    try:
      files[name] = np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
      raise ValueError(f'{field}: {path} is broken: {error}') from error
    array = files[name]
    if not isinstance(array, np.ndarray) or array.shape != expected:
      raise ValueError(
        f'{field}: {path} has the shape {getattr(array, "shape", None)}, not '
        f'{expected}: five severities of the whole test split'
      )
  labels = files.pop('labels')
  if not np.array_equal(labels, np.tile(examples['label'], 5)):
    raise ValueError(
      f'config.evals.corruption.source={str(folder)!r}: labels.npy differs '
      'from the labels of the test split; it belongs to another data set'
    )
  for name, array in files.items():
    if array.dtype != np.uint8:
      raise ValueError(
        f'config.evals.corruption.source={str(folder)!r}: {name}.npy has dtype '
        f'{array.dtype}, not uint8'
      )
  return files
