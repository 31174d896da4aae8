"""Models of transformers and sentence-transformers, from the hub or a folder.

What `encoders` needs of them, and the one place that imports them. No code that
comes with a model is ever run, and its weights are read from safetensors (a
dense layer of sentence-transformers that has none: by torch's weights-only
reader). A model from the hub is known by the commit it was read at, a local
folder by the sha256 of its files.
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
    settings: of its id: which one it is, and what else was decided here.
    dim: D.
    embed: n PIL images or n strings, n > 0, to float32 `[n, D]`.
  """

  settings: dict[str, Any]
  dim: int
  embed: Callable[[Sequence[Any]], np.ndarray]


class Found(NamedTuple):
  """A model as it is found: where, at which commit, and what its id says."""

  path: str
  revision: str | None
  version: dict[str, Any]


def load_image(name: str, pooling: str | None, device: str | None) -> Model:
  """Loads a vision model with its image processor; see `image_encoder`."""
  from PIL import Image

  torch, transformers = load_torch(), _transformers()
  found = _find('image encoder', name)
  model = _load('image encoder', found, pooling, device)
  with _available('image processor', found.path):
    processor = transformers.AutoImageProcessor.from_pretrained(
      found.path,
      revision=found.revision,
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
      f'image encoder {name} is no convolutional network: choose its pooling '
      '(--image_pooling mean|cls|pooler)'
    )
  chosen = pooling or 'mean'

  def embed(images: Sequence[Any]) -> np.ndarray:
    return _pool(name, forward(images), chosen).cpu().numpy()

  settings = found.version | {
    'preprocessing': type(processor).__name__,
    'pooling': chosen,
  }
  return Model(settings, _pool(name, probe, chosen).shape[1], embed)


def load_text(
  name: str, pooling: str, max_length: int, device: str | None
) -> Model:
  """Loads a text model with its tokenizer; see `text_encoder`."""
  torch, transformers = load_torch(), _transformers()
  found = _find('text encoder', name)
  model = _load('text encoder', found, pooling, device)
  with _available('tokenizer', found.path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(
      found.path, revision=found.revision, trust_remote_code=False
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

  settings = found.version | {'pooling': pooling, 'max_length': max_length}
  return Model(settings, embed(['a']).shape[1], embed)


def load_modules(name: str, max_length: int, device: str | None) -> Model:
  """Loads a text model as its modules.json says, by sentence-transformers."""
  load_torch()
  with extra("pooling 'modules'"):
    import sentence_transformers  # pyright: ignore[reportMissingImports]
  # Without this file the package would make up a pooling of its own.
  found = _find('text encoder', name, 'modules.json')
  with _available('text encoder', found.path):
    model: Any = sentence_transformers.SentenceTransformer(
      found.path,
      revision=found.revision,
      device=torch_device(device),
      trust_remote_code=False,
      model_kwargs={'use_safetensors': True},
    )
  model.default_prompt_name = None  # the prefix is not the model's to choose
  model.max_seq_length = min(max_length, model.max_seq_length or max_length)

  def embed(texts: Sequence[str]) -> np.ndarray:
    features = model.encode(
      list(texts), batch_size=len(texts), show_progress_bar=False
    )
    return np.asarray(features, np.float32)

  settings = found.version | {
    'pooling': 'modules',
    'max_length': model.max_seq_length,
  }
  return Model(settings, embed(['a']).shape[1], embed)


def _load(
  what: str, model: Found, pooling: str | None, device: str | None
) -> Any:
  """The model in float32, ready to run."""
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
  # What is not in the file would be random. Many have no pooler, which is fine
  # as long as nobody asks for it.
  missing = [
    key
    for key in sorted(report['missing_keys'])
    if pooling == 'pooler' or 'pooler' not in key
  ]
  if missing:
    raise ValueError(
      f'{what} {model.path} lacks weights ({len(missing)}, e.g. {missing[0]}): '
      'they would be random'
      + ('; choose another pooling' if 'pooler' in missing[0] else '')
    )
  return loaded.eval().to(torch_device(device))


def _find(what: str, name: str, file: str = 'config.json') -> Found:
  """Finds out which commit a name stands for, or digests a folder."""
  path, revision = split_revision(name)
  if not pathlib.Path(path).is_dir():
    _transformers()
    from transformers.utils.hub import cached_file  # pyright: ignore[reportMissingImports]

    with _available(what, path):
      found = str(cached_file(path, file, revision=revision))
    # The cache of the hub: <cache>/models--a--b/snapshots/<commit>/<file>.
    commit = pathlib.Path(found).parent.name
    return Found(path, commit, {'revision': commit})
  if not pathlib.Path(path, file).is_file():
    raise FileNotFoundError(f'{what} {path} is not complete: it has no {file}')
  digest = hashlib.sha256()
  for each in sorted(pathlib.Path(path).rglob('*')):
    if each.suffix in ('.json', '.txt', '.model', '.safetensors'):
      with each.open('rb') as data:
        content = hashlib.file_digest(data, 'sha256').hexdigest()
      digest.update(f'{each.relative_to(path).as_posix()} {content}\n'.encode())
  return Found(path, None, {'sha256': digest.hexdigest()[:16]})


def _pool(name: str, output: Any, pooling: str) -> Any:
  """What a model gives for n pictures or texts, as `[n, D]`."""
  states = output.last_hidden_state
  if pooling == 'mean':
    return states.mean((2, 3) if states.ndim == 4 else 1)
  if pooling == 'cls' and states.ndim == 3:
    return states[:, 0]
  if pooling == 'pooler' and output.get('pooler_output') is not None:
    return output.pooler_output.flatten(1)
  raise ValueError(f"{name} has no output for pooling '{pooling}'")


def split_revision(name: str) -> tuple[str, str | None]:
  """The name and the revision in `'NAME@REVISION'`; folders have none."""
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
  """The device to run on: a GPU if there is one and nothing else is said."""
  return device or ('cuda' if load_torch().cuda.is_available() else 'cpu')


@contextlib.contextmanager
def extra(what: str) -> Iterator[None]:
  """Says which extra to install where a package is missing."""
  try:
    yield
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"{what} needs {error.name}: pip install 'jaxmix[extract]'",
      name=error.name,
    ) from error


@contextlib.contextmanager
def _available(what: str, path: str) -> Iterator[None]:
  """Says what to do where a model cannot be had."""
  try:
    yield
  except OSError as error:
    if pathlib.Path(path).is_dir():
      raise OSError(f'{what} {path} is not complete: {error}') from error
    raise OSError(
      f'{what} {path}: no such folder, and not to be had from the hub (is that '
      f'its name? is there a network?). Where there is one, `hf download {path}'
      f' --local-dir FOLDER` brings it; then give FOLDER. ({error})'
    ) from error
