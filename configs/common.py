"""The argument of a config: `--config=configs/x.py:smoke,method=cutmix`."""

import contextlib
from typing import Any

from ml_collections import ConfigDict


def parse_arg(arg: str | None, **defaults: Any) -> Any:
  """Parses the text after the colon into typed values.

  Args:
    arg: names and values, `'smoke,method=cutmix,width=2'`, or None for all the
      defaults.
    **defaults: what can be given. The default says the type: for a bool the
      bare name switches it on; a str, an int or a float needs a value; a tuple
      lists the choices, the first of which is the default; a list of str takes
      the bare names that follow as well, `train=en,de`.

  Returns:
    A locked `ConfigDict` with a value for every name of `defaults`.

  Raises:
    ValueError: a name is unknown or given twice, or a value does not fit; the
      message says what is allowed.

  Examples:
    >>> arg = parse_arg('smoke,width=2', smoke=False, width=10, mix=('a', 'b'))
    >>> arg.smoke, arg.width, arg.mix
    (True, 2, 'a')
  """
  values = {
    name: default[0] if isinstance(default, tuple) else default
    for name, default in defaults.items()
  }
  given = set()
  name = ''
  for item in arg.split(',') if arg else []:
    if isinstance(defaults.get(name), list) and item.isalnum():
      if item not in defaults:
        values[name] = [*values[name], item]
        continue
    name, equals, text = item.partition('=')
    if name not in defaults:
      raise ValueError(
        f'unknown config argument {item!r}: '
        f'there are {", ".join(map(_describe, defaults.items()))}'
      )
    if name in given:
      raise ValueError(f'config argument {name!r} is given twice')
    given.add(name)
    values[name] = _convert(name, defaults[name], text if equals else None)
  return ConfigDict(values).lock()


def _convert(name: str, default: Any, text: str | None) -> Any:
  if isinstance(default, bool):
    known: dict[str | None, Any] = {None: True, 'true': True, 'false': False}
  elif isinstance(default, tuple):
    known = {str(choice): choice for choice in default}
  elif isinstance(default, list):
    known = {text: [text]} if text else {}
  else:
    known = {}
    with contextlib.suppress(TypeError, ValueError):
      known = {text: type(default)(text)} if text else {}
  if text not in known:
    raise ValueError(
      f'config argument {name}={text or ""}: '
      f'must be {_describe((name, default))}'
    )
  return known[text]


def _describe(item: tuple[str, Any]) -> str:
  name, default = item
  if isinstance(default, bool):
    return name
  if isinstance(default, tuple):
    return f'{name}={"|".join(map(str, default))}'
  if isinstance(default, list):
    return f'{name}=<str>,<str>,...'
  return f'{name}=<{type(default).__name__}>'


# How often a run of either recipe does what.
_RHYTHM = {
  'steps_per_call': 32,
  'log_every': 96,
  'eval_every': 5.0,
  'checkpoint_every': 5.0,
  'keep_checkpoints': 2,
  'max_save_failures': 3,
  'max_skipped_steps': 0,
  'tensorboard': True,
}

METHODS = (
  *('random_mix', 'mixup', 'cutmix', 'resizemix', 'fmix'),
  *('cutout', 'none'),
)

# Pixels: its paper's on CIFAR, half a side elsewhere.
_CUTOUT = {'cifar10': 16, 'cifar100': 8, 'digits': 4, 'imagenet': 112}


def mix_options(method: str, weights: tuple[float, ...]) -> dict[str, Any]:
  """The block `config.mix`: the options of `jaxmix.draw_random_mix`.

  Args:
    method: one of `METHODS`.
    weights: of mixup, cutmix, resizemix and fmix, where the method is
      `'random_mix'`.
  """
  candidates = (method,)
  if method == 'random_mix':
    candidates = ('mixup', 'cutmix', 'resizemix', 'fmix')
  elif method in ('cutout', 'none'):
    candidates = ('identity',)
  return {
    'candidates': candidates,
    'weights': weights if method == 'random_mix' else (1.0,),
    'alpha': {'mixup': 1.0, 'cutmix': 1.0, 'fmix': 1.0},
    'scale': (0.1, 0.8),
    'method': 'nearest',
    'spectrum': 'isotropic',
    'decay_power': 3.0,
    'max_soft': 0.0,
    'pairing': 'permutation',
    'granularity': 'batch',
  }


def classification(
  choice: Any, *, data: str, model: dict[str, Any], weights: tuple[float, ...]
) -> Any:
  """The recipe of RandomMix, section 3.1.1, every field of it.

  Args:
    choice: `method` and `smoke`, as `parse_arg` gives them.
    data: the data set's name.
    model: the block `config.model`.
    weights: of mixup, cutmix, resizemix and fmix in RandomMix.
  """
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.epochs = 200.0
  config.batch_size = 256
  config.optimizer = {
    'name': 'sgd',
    'lr': 0.1,
    'schedule': 'cosine',
    'warmup_epochs': 0.0,
    'momentum': 0.9,
    'nesterov': False,
    'weight_decay': 5e-4,
  }
  config.label_smoothing = 0.0

  config.model = model
  config.augment = {
    'pad': 4,
    'flip': True,
    'cutout': _CUTOUT[data] if choice.method == 'cutout' else 0,
  }
  config.mix = mix_options(choice.method, weights)

  config.data = {
    'name': data,
    'source': '',
    'dir': '',
    'download': False,
    'feed': 'resident',
    'train_examples': 0,
    'test_examples': 0,
  }
  config.evals = {'clean': {'batch_size': 1000}}

  config.update(_RHYTHM)
  if choice.smoke:
    make_smoke(config)
  return config


def make_smoke(config: Any) -> None:
  """Shrinks a run to four steps of the real model on real data."""
  config.batch_size = 8
  config.epochs = 1.0
  config.steps_per_call = 2
  config.data.train_examples = 32
  config.data.test_examples = 100
  config.evals.clean.batch_size = 50


LOSSES = ('info_nce', 'm3l', 'log_m3l', 'patr', 'triplet')
MINERS = ('topk_random', 'hardest', 'semihard', 'random')


def loss_options(loss: str) -> dict[str, Any]:
  """The block `config.loss`; one of `LOSSES`."""
  if loss in ('m3l', 'log_m3l'):
    return {
      'name': 'm3l',
      'objective': 'ratio' if loss == 'm3l' else 'log',
      'rho': 4,
      'alpha1': 0.5,
      'alpha2': 1.0,
    }
  # Squared lengths, in units of the mean squared norm of the images. The
  # paper's eta, 1100, is about 1.3 of it for ResNet-152.
  length = {
    'patr': {'eta': 1.3},
    'triplet': {'margin': 0.2},
    'info_nce': {'temperature': 0.15, 'symmetric': False},
  }[loss]
  return {'name': loss, **length, 'unit': 'mean_square'}


def retrieval(
  choice: Any,
  *,
  data: str,
  languages: tuple[str, ...],
  evals: dict[str, tuple[str, tuple[str, ...]]],
) -> Any:
  """The recipe of the cross-lingual paper, section 3, every field of it.

  Args:
    choice: `loss` and `smoke`, as `parse_arg` gives them.
    data: the feature set's name.
    languages: to train on.
    evals: for each evaluation a split and the languages of its queries.
  """
  config = ConfigDict()
  config.task = 'jaxretrieval.task'
  config.seed = 0

  config.epochs = 50.0
  config.batch_size = 128
  config.optimizer = {
    'name': 'adam',
    'lr': 1e-3,
    'schedule': 'constant',
    'warmup_epochs': 0.0,
    'weight_decay': 0.0,
    'b1': 0.9,
    'b2': 0.999,
  }

  config.model = {
    'hidden': (1024, 2048),
    'dropout': (0.2, 0.1, 0.0),
    'output': 'relu',
    'dtype': 'float32',
    'feature_scale': 'rms',
    'center_text': True,
    'text_noise': 0.0,
    'image_noise': 0.0,
    'output_scale': 'glorot',
    'output_bias': 'zero',
  }
  config.loss = loss_options(choice.loss)
  config.mining = {
    'miner': 'topk_random',
    'ranks': (0, 10),
    'bank': False,
    'block_size': 4096,
  }

  config.data = {
    'name': data,
    'source': '',
    'dir': '',
    'text_encoder': '',
    'split': 'train',
    'languages': languages,
    'sampling': 'image',
    'balance': 'language',
    'train_images': 64 if choice.smoke else 0,
    'on_overlap': 'refuse',
  }
  config.evals = {
    name: {
      'name': '',
      'source': '',
      'dir': '',
      'text_encoder': '',
      'split': split,
      'languages': tested,
    }
    for name, (split, tested) in evals.items()
  }

  config.update(_RHYTHM)
  if choice.smoke:
    config.epochs = 1.0
    config.batch_size = 16
    config.steps_per_call = 2
  return config


# The languages of the paper's table 2, in its order.
LANGUAGES = ('en', 'de', 'fr', 'it', 'es', 'ru', 'ja', 'zh', 'pl', 'tr', 'ko')


def follow_paper(config: Any) -> None:
  """Sets what section 3 of the paper prints and our defaults differ in."""
  config.optimizer.b1 = 0.99
  config.model.center_text = False
  config.mining.miner = 'hardest'
