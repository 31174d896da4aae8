"""Reads the text head that `python -m launch.export` wrote."""

import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmix.files import untrusted
from jaxretrieval.feature_sets.feature_set import encoders_fingerprint
from jaxretrieval.training import text_head


class ExportedHead(NamedTuple):
  """A trained text head.

  Attributes:
    config: the complete config of the run, as plain dicts.
    step: number of training steps.
    params: parameters of `text_head.TextHead`.
    constants: result of `text_head.scale_constants` for the training set, and
      `encoders`, see `encoders_fingerprint`.
  """

  config: dict[str, Any]
  step: int
  params: dict[str, Any]
  constants: dict[str, Any]

  @property
  def scale(self) -> float:
    """The number by which image features are divided."""
    return float(self.constants['image_scale'])

  def check_encoders(self, encoders: tuple[str, str]) -> None:
    """Raises ValueError if the head was trained with other encoders."""
    trained_on = self.constants['encoders']
    if not np.array_equal(trained_on, encoders_fingerprint(encoders)):
      raise ValueError(
        'the head was trained on features of other encoders than '
        f'{encoders[0]!r} and {encoders[1]!r}, so distances would be '
        'meaningless: use a feature set of the same encoders, or train a head '
        'on this one'
      )

  def encode(self, text: np.ndarray, *, batch_size: int = 1024) -> np.ndarray:
    """Maps sentence features `[M, Dt]` to float32 `[M, Di]`.

    The result is comparable with image features divided by `scale`.

    Raises:
      ValueError: Dt differs from the training set.
    """
    expected = np.shape(self.constants['text_mean'])
    if np.ndim(text) != 2 or np.shape(text)[1:] != expected:
      raise ValueError(
        f'sentence features have shape {np.shape(text)}; they must be '
        f'[M, {expected[0]}], as in training'
      )
    last = self.params[f'block{len(self.params)}']
    model = text_head.create(self.config['model'], len(last['bias']))
    parts = [np.zeros((0, model.dims[-1]), np.float32)]
    for start in range(0, len(text), batch_size):
      part = text[start : start + batch_size]
      # Padding gives all batches one shape, hence one compilation.
      padded = np.zeros((batch_size, *part.shape[1:]), np.float32)
      padded[: len(part)] = part
      out = _encode(model, self.params, self.constants, padded)
      parts.append(np.asarray(out)[: len(part)])
    return np.concatenate(parts)


def load(folder: str | os.PathLike[str]) -> ExportedHead:
  """Reads a folder that `python -m launch.export` wrote.

  Raises:
    ValueError, FileNotFoundError: it is not the export of a text head.
  """
  folder = pathlib.Path(folder)
  if not (folder / 'export.json').is_file():
    raise FileNotFoundError(
      f'{folder / "export.json"} is missing, so {folder} is not an exported '
      'head: write one with python -m launch.export WORKDIR'
    )
  try:
    exported = untrusted.read_json(folder / 'export.json')
  except ValueError as error:
    raise ValueError(f'{folder / "export.json"}: {error}') from error
  if not isinstance(exported, dict) or not isinstance(
    exported.get('config'), dict
  ):
    raise ValueError(
      f'{folder / "export.json"} has no config: export the run again'
    )
  trees = _unflatten(untrusted.load_arrays(folder / 'arrays.npz'))
  constants = trees.get('model_state', {})
  required = {'image_scale', 'text_mean', 'encoders'}
  if 'params' not in trees or not required <= constants.keys():
    raise ValueError(
      f'{folder} is not the export of a text head: its config.task is '
      f'{exported["config"].get("task")!r}'
    )
  return ExportedHead(
    exported['config'], exported['step'], trees['params'], constants
  )


def _unflatten(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for path, array in arrays.items():
    *parents, name = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
      if not isinstance(node, dict):
        raise ValueError(f'arrays.npz: {path!r} is nested within an array')
    node[name] = array
  return tree


@functools.partial(jax.jit, static_argnums=0)
def _encode(
  model: text_head.TextHead, params: Any, constants: Any, texts: Any
) -> Any:
  inputs = text_head.prepare_texts(texts, constants)
  return model.apply({'params': params}, inputs, train=False)
