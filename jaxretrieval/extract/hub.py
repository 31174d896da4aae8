"""Models of transformers and sentence-transformers, from the hub or a folder.

Only this module imports these packages. Code that comes with a model is never
run. Weights are read from safetensors; torch's weights-only reader reads a
dense layer of sentence-transformers that has none. A hub model is identified by
its commit, a local folder by the sha256 of its files.
"""

import contextlib
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np


class Model(NamedTuple):
  """A loaded model.

  Attributes:
    settings: the settings in its id: version and options.
    dim: D, the width of its features.
    embed: maps n > 0 PIL images or strings to float32 `[n, D]`.
  """

  settings: dict[str, Any]
  dim: int
  embed: Callable[[Sequence[Any]], np.ndarray]


class ResolvedModel(NamedTuple):
  """A model name, resolved to its path, its commit and its version."""

  path: str
  revision: str | None
  version: dict[str, Any]


def load_image(name: str, pooling: str | None, device: str | None) -> Model:
  """Loads a vision model with its image processor; see `image_encoder`."""
  from PIL import Image

  torch, transformers = load_torch(), _transformers()
  resolved = _resolve('image encoder', name)
  model = _load('image encoder', resolved, pooling, device)
  with _available('image processor', resolved.path):
    processor = transformers.AutoImageProcessor.from_pretrained(
      resolved.path,
      revision=resolved.revision,
      backend='pil',
      trust_remote_code=False,
    )
  model = getattr(model, 'vision_model', model)  # of a model with two towers

  def forward(images: Sequence[Any]) -> Any:
    images = [image.convert('RGB') for image in images]
    pixels = processor(images=images, return_tensors='pt')['pixel_values']
    with torch.inference_mode():
      return model(pixel_values=pixels.to(model.device))

  probe = forward([Image.new('RGB', (64, 64))])
  if pooling is None and probe.last_hidden_state.ndim != 4:
    raise ValueError(
      f'image encoder {name} is not a convolutional network and has no default '
      'pooling: choose --image_pooling mean, cls or pooler'
    )
  chosen = pooling or 'mean'

  def embed(images: Sequence[Any]) -> np.ndarray:
    return _pool(name, forward(images), chosen).cpu().numpy()

  settings = resolved.version | {
    'preprocessing': type(processor).__name__,
    'pooling': chosen,
  }
  return Model(settings, _pool(name, probe, chosen).shape[1], embed)


def load_text(
  name: str, pooling: str, max_length: int, device: str | None
) -> Model:
  """Loads a text model with its tokenizer; see `text_encoder`."""
  torch, transformers = load_torch(), _transformers()
  resolved = _resolve('text encoder', name)
  model = _load('text encoder', resolved, pooling, device)
  with _available('tokenizer', resolved.path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(
      resolved.path, revision=resolved.revision, trust_remote_code=False
    )
  model = getattr(model, 'text_model', model)  # of a model with two towers
  max_length = min(max_length, tokenizer.model_max_length)

  def embed(texts: Sequence[str]) -> np.ndarray:
    tokens = tokenizer(
      list(texts),
      padding=True,
      truncation=True,
      max_length=max_length,
      return_tensors='pt',
    ).to(model.device)
    with torch.inference_mode():
      output = model(**tokens)
      if pooling == 'mean':
        mask = tokens['attention_mask'][..., None].float()
        features = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
      else:
        features = _pool(name, output, pooling)
    return features.cpu().numpy()

  settings = resolved.version | {'pooling': pooling, 'max_length': max_length}
  return Model(settings, embed(['a']).shape[1], embed)


def load_modules(name: str, max_length: int, device: str | None) -> Model:
  """Loads a text model of sentence-transformers by its modules.json."""
  load_torch()
  with extra("pooling 'modules'"):
    import sentence_transformers  # pyright: ignore[reportMissingImports]
  # Without this file the package would choose a default pooling.
  resolved = _resolve('text encoder', name, 'modules.json')
  with _available('text encoder', resolved.path):
    model: Any = sentence_transformers.SentenceTransformer(
      resolved.path,
      revision=resolved.revision,
      device=torch_device(device),
      trust_remote_code=False,
      model_kwargs={'use_safetensors': True},
    )
  model.default_prompt_name = None  # the prefix is set by the caller
  model.max_seq_length = min(max_length, model.max_seq_length or max_length)

  def embed(texts: Sequence[str]) -> np.ndarray:
    features = model.encode(
      list(texts), batch_size=len(texts), show_progress_bar=False
    )
    return np.asarray(features, np.float32)

  settings = resolved.version | {
    'pooling': 'modules',
    'max_length': model.max_seq_length,
  }
  return Model(settings, embed(['a']).shape[1], embed)


def _load(
  what: str, model: ResolvedModel, pooling: str | None, device: str | None
) -> Any:
  """Loads a model in float32 in evaluation mode."""
  transformers = _transformers()
  with _available(what, model.path):
    loaded, report = transformers.AutoModel.from_pretrained(
      model.path,
      revision=model.revision,
      dtype='float32',
      trust_remote_code=False,
      use_safetensors=True,
      output_loading_info=True,
    )
  # Weights missing in the file would be random. Many models have no pooler,
  # which does not matter unless it is used.
  missing = [
    key
    for key in sorted(report['missing_keys'])
    if pooling == 'pooler' or 'pooler' not in key
  ]
  if missing:
    raise ValueError(
      f'{what} {model.path} lacks {len(missing)} weights, e.g. {missing[0]}: '
      + (
        'choose another pooling'
        if 'pooler' in missing[0]
        else 'choose another model'
      )
    )
  return loaded.eval().to(torch_device(device))


def _resolve(what: str, name: str, file: str = 'config.json') -> ResolvedModel:
  """Returns the commit of a hub model, or the fingerprint of a folder."""
  path, revision = split_revision(name)
  if not pathlib.Path(path).is_dir():
    _transformers()
    from transformers.utils.hub import cached_file  # pyright: ignore[reportMissingImports]

    with _available(what, path):
      cached = str(cached_file(path, file, revision=revision))
    # The hub cache is <cache>/models--a--b/snapshots/<commit>/<file>.
    commit = pathlib.Path(cached).parent.name
    return ResolvedModel(path, commit, {'revision': commit})
  if not pathlib.Path(path, file).is_file():
    raise FileNotFoundError(f'{what} {path} is incomplete: {file} is missing')
  fingerprint = hashlib.sha256()
  for each in sorted(pathlib.Path(path).rglob('*')):
    if each.suffix in ('.json', '.txt', '.model', '.safetensors'):
      with each.open('rb') as data:
        content = hashlib.file_digest(data, 'sha256').hexdigest()
      line = f'{each.relative_to(path).as_posix()} {content}\n'
      fingerprint.update(line.encode())
  return ResolvedModel(path, None, {'sha256': fingerprint.hexdigest()[:16]})


def _pool(name: str, output: Any, pooling: str) -> Any:
  """Pools the output of a model for n images or texts to `[n, D]`."""
  activations = output.last_hidden_state
  if pooling == 'mean':
    return activations.mean((2, 3) if activations.ndim == 4 else 1)
  if pooling == 'cls' and activations.ndim == 3:
    return activations[:, 0]
  if pooling == 'pooler' and output.get('pooler_output') is not None:
    return output.pooler_output.flatten(1)
  raise ValueError(
    f'{name} has no output for pooling {pooling!r}: choose another pooling'
  )


def split_revision(name: str) -> tuple[str, str | None]:
  """Splits `'NAME@REVISION'`; the revision of a folder is None."""
  if pathlib.Path(name).is_dir() or '@' not in name:
    return name, None
  path, _, revision = name.partition('@')
  return path, revision


def load_torch() -> Any:
  """Imports torch."""
  with extra('encoding'):
    import torch  # pyright: ignore[reportMissingImports]
  return torch


def _transformers() -> Any:
  with extra('a model of the hub or of a folder'):
    import transformers  # pyright: ignore[reportMissingImports]
  return transformers


def torch_device(device: str | None) -> str:
  """Returns the given torch device, by default a GPU if available."""
  return device or ('cuda' if load_torch().cuda.is_available() else 'cpu')


@contextlib.contextmanager
def extra(what: str) -> Iterator[None]:
  """Adds the extra to install to the error of a missing package."""
  try:
    yield
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"{what} requires {error.name}: pip install -e '.[extract]' in a clone "
      "(or pip install 'randommix[extract]')",
      name=error.name,
    ) from error


@contextlib.contextmanager
def _available(what: str, path: str) -> Iterator[None]:
  """Adds instructions to the error of a model that cannot be loaded."""
  try:
    yield
  except OSError as error:
    if pathlib.Path(path).is_dir():
      raise OSError(f'{what} {path} is incomplete: {error}') from error
    raise OSError(
      f'{what} {path} is not a folder and cannot be loaded from the hub: check '
      f'the name and the network, or download it elsewhere with `hf download '
      f'{path} --local-dir FOLDER` and give FOLDER. ({error})'
    ) from error
