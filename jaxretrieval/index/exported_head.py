"""A trained head, apart from the run that trained it."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmix.files import untrusted
from jaxretrieval.training import text_head


class ExportedHead(NamedTuple):
  """A trained head, apart from the run that trained it.

  Attributes:
    config: the run's whole config, as plain dicts.
    step: how many steps it was trained.
    params: of `models.TextHead`.
    constants: what `models.scale_constants` gave for the training set, and
      `encoders`, see `encoders_digest`.
  """

  config: dict[str, Any]
  step: int
  params: dict[str, Any]
  constants: dict[str, Any]

  @property
  def scale(self) -> float:
    """What image features are divided by before distances are taken."""
    return float(self.constants['image_scale'])

  def check_encoders(self, encoders: tuple[str, str]) -> None:
    """Raises ValueError if features by `encoders` are not the head's own."""
    known = self.constants['encoders']
    if not np.array_equal(known, encoders_digest(encoders)):
      raise ValueError(
        'the head was trained on features of other encoders than '
        f'{encoders[0]!r} and {encoders[1]!r}: distances would mean nothing. '
        'Use a feature set by the same encoders, or train on this one'
      )

  def encode(self, text: np.ndarray, *, batch_size: int = 1024) -> np.ndarray:
    """Maps sentence features `[M, Dt]` to float32 `[M, Di]`.

    The result stands among image features divided by `scale`.

    Raises:
      ValueError: Dt is not that of the training set.
    """
    expected = np.shape(self.constants['text_mean'])
    if np.ndim(text) != 2 or np.shape(text)[1:] != expected:
      raise ValueError(
        f'sentence features must be [M, {expected[0]}], as in training: '
        f'got {np.shape(text)}'
      )
    last = self.params[f'block{len(self.params)}']
    model = text_head.create(self.config['model'], len(last['bias']))
    parts = [np.zeros((0, model.dims[-1]), np.float32)]
    for start in range(0, len(text), batch_size):
      part = text[start : start + batch_size]
      # One shape for all batches: one compilation.
      padded = np.zeros((batch_size, *part.shape[1:]), np.float32)
      padded[: len(part)] = part
      out = _encode(model, self.params, self.constants, padded)
      parts.append(np.asarray(out)[: len(part)])
    return np.concatenate(parts)


def encoders_digest(encoders: tuple[str, str]) -> np.ndarray:
  """The sha256 of the ids of the image and the text encoder, uint8 `[32]`.

  A head keeps it among its constants, as checkpoints hold arrays alone.
  """
  text = json.dumps([*encoders]).encode()
  return np.frombuffer(hashlib.sha256(text).digest(), np.uint8)


def load(folder: str | os.PathLike[str]) -> ExportedHead:
  """Reads what `python -m launch.export` wrote.

  Raises:
    ValueError, FileNotFoundError: it is no export of a text head.
  """
  folder = pathlib.Path(folder)
  if not (folder / 'export.json').is_file():
    raise FileNotFoundError(
      f'{folder} is no exported head: python -m launch.export WORKDIR writes '
      'WORKDIR/export'
    )
  try:
    exported = untrusted.read_json(folder / 'export.json')
  except ValueError as error:
    raise ValueError(f'{folder / "export.json"}: {error}') from error
  if not isinstance(exported, dict) or not isinstance(
    exported.get('config'), dict
  ):
    raise ValueError(f'{folder / "export.json"} has no config of a run')
  trees = _unflatten(untrusted.load_arrays(folder / 'arrays.npz'))
  constants = trees.get('model_state', {})
  wanted = {'image_scale', 'text_mean', 'encoders'}
  if 'params' not in trees or not wanted <= constants.keys():
    raise ValueError(
      f'{folder}: not the export of a text head (task: '
      f'{exported["config"].get("task")})'
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
        raise ValueError(f'arrays.npz: {path!r} lies below another array')
    node[name] = array
  return tree


@functools.partial(jax.jit, static_argnums=0)
def _encode(
  model: text_head.TextHead, params: Any, constants: Any, texts: Any
) -> Any:
  inputs = text_head.prepare_texts(texts, constants)
  return model.apply({'params': params}, inputs, train=False)
