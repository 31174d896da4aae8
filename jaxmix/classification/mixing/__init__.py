"""How a step mixes its batch, one kind a file; `config.mix.name` chooses.

A kind has

* `RULES`: its fields in `config.mix`, beside `name`, and what they may be;
* `make(options, place) -> Mixing`: the function that a step calls.
"""

import types
from typing import Any

from jaxmix.classification.mixing import (
  co_mixup,
  manifold_mixup,
  patchup,
  puzzle_mix,
  random_mix,
  saliency_mix,
)
from jaxmix.classification.mixing.context import MixContext, Mixing

KINDS = {
  'random_mix': random_mix,
  'saliency_mix': saliency_mix,
  'puzzle_mix': puzzle_mix,
  'co_mixup': co_mixup,
  'manifold_mixup': manifold_mixup,
  'patchup': patchup,
}


def find(name: Any) -> types.ModuleType:
  """The kind that `config.mix.name` names.

  Raises:
    ValueError: there is none of this name.
  """
  if not isinstance(name, str) or name not in KINDS:
    raise ValueError(
      f'config.mix.name={name!r} is unknown; allowed: {sorted(KINDS)}'
    )
  return KINDS[name]


def make(mix_config: Any, place: MixContext) -> Mixing:
  """Makes the mixing that `config.mix` describes.

  Raises:
    ValueError: a field has a value that cannot be, which begins with
      `config.mix.`, or a shard has too few examples.
  """
  options = mix_config.to_dict()
  if place.rows < 2 and set(options.get('candidates', ())) != {'identity'}:
    raise ValueError(
      f'config.batch_size={place.rows * place.shards} leaves each of '
      f'config.virtual_devices={place.shards} one example, and none to mix it '
      f'with: it must be at least {2 * place.shards}'
    )
  return find(options.pop('name')).make(options, place)
