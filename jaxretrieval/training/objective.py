"""Objective of the retrieval trainer: the loss and the miner of a config."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxretrieval import collectives, losses, mining

# The fields of config.loss by loss name. LENGTHS are squared distances in the
# unit config.loss.unit: 'mean_square' is the mean squared norm of the training
# images, 'raw' the squared unit of the stored features.
LOSSES = {
  'm3l': {'objective', 'rho', 'alpha1', 'alpha2'},
  'patr': {'eta', 'unit'},
  'triplet': {'margin', 'unit'},
  'info_nce': {'temperature', 'symmetric', 'unit'},
}
LENGTHS = {'eta', 'margin', 'temperature'}
UNITS = ('mean_square', 'raw')
# How devices search the images of the other shards of a batch.
EXCHANGES = ('gather', 'ring')


class Mining(NamedTuple):
  """Two functions that mine negatives.

  Attributes:
    from_batch: `(random_bits, anchors, image)` to the negatives from a batch
      that is sharded over devices, with their images and texts.
    from_candidates: `(random_bits, anchors, candidates, positive)` to the
      negatives from candidates that are replicated on every device.
  """

  from_batch: Callable[..., tuple[mining.Negatives, jax.Array, jax.Array]]
  from_candidates: Callable[..., mining.Negatives]


def make_loss_fn(loss_config: Any) -> Callable[..., jax.Array]:
  """Returns the loss function of `config.loss`, for scaled features.

  Returns:
    `loss_fn(constants, text, image, neg_image, neg_text, where=...)`, or
    `loss_fn(constants, text, image, same=...)` for InfoNCE.

  Raises:
    ValueError: the name or a field is unknown, missing or out of range.
  """
  fields = dict(loss_config)
  name = fields.pop('name')
  if name not in LOSSES:
    raise ValueError(
      f'config.loss.name={name!r} must be one of {", ".join(LOSSES)}'
    )
  if fields.keys() != LOSSES[name]:
    raise ValueError(
      f'config.loss has the fields {sorted(fields)}, but config.loss.name='
      f'{name!r} requires {sorted(LOSSES[name])}: the config argument '
      f':loss={name} sets them all'
    )
  unit = fields.pop('unit', 'raw')
  if unit not in UNITS:
    raise ValueError(f'config.loss.unit={unit!r} must be one of {UNITS}')
  for field in LENGTHS & fields.keys():
    if not 0 < fields[field] < np.inf:
      raise ValueError(
        f'config.loss.{field}={fields[field]!r} must be a finite number above 0'
      )

  def scaled(constants: Any, length: float) -> Any:
    raw = constants['image_mean_square'] if unit == 'mean_square' else 1.0
    return length * raw / constants['image_scale'] ** 2

  def loss_fn(
    constants: Any, text: Any, image: Any, *negatives: Any, **options: Any
  ) -> jax.Array:
    if name == 'm3l':
      return losses.m3l(text, image, *negatives, **options, **fields)
    lengths = {
      field: scaled(constants, fields[field])
      for field in LENGTHS & fields.keys()
    }
    function = getattr(losses, name)
    return function(
      text, image, *negatives[:1], **options, **(fields | lengths)
    )

  # Trace it now: an error in the first step would not name the config field.
  features = jax.ShapeDtypeStruct((2, 2), jnp.float32)
  try:
    arguments = [features] * (2 if name == 'info_nce' else 4)
    jax.eval_shape(
      loss_fn, {'image_mean_square': 1.0, 'image_scale': 1.0}, *arguments
    )
  except ValueError as error:
    # The message starts with the name of the argument, which is the field.
    raise ValueError(f'config.loss.{error}') from error
  return loss_fn


def make_mining(mining_config: Any, mesh: Mesh | None) -> Mining:
  """Returns the miners of `config.mining`.

  Each device mines for its own anchors; the negatives do not depend on the
  number of devices.

  Raises:
    ValueError: `mining.select` refuses an option, `config.mining.exchange` is
      unknown, or it is 'ring' with a bank.
  """
  options = {
    'miner': mining_config.miner,
    'ranks': tuple(mining_config.ranks),
    'block_size': mining_config.block_size,
  }
  features = jax.ShapeDtypeStruct((2, 2), jnp.float32)
  ids = jax.ShapeDtypeStruct((2,), jnp.int32)
  items: Any = mining.Items(features, ids)  # pyright: ignore[reportArgumentType]
  try:
    jax.eval_shape(
      functools.partial(mining.select, **options),
      jax.ShapeDtypeStruct((2,), jnp.uint32),
      items,
      items,
      positive=features,
    )
  except ValueError as error:
    raise ValueError(f'config.mining.{error}') from error
  exchange = mining_config.exchange
  if exchange not in EXCHANGES:
    raise ValueError(
      f'config.mining.exchange={exchange!r} must be one of '
      f'{", ".join(EXCHANGES)}'
    )
  if exchange == 'ring' and mining_config.bank:
    raise ValueError(
      "config.mining.exchange='ring' cannot be combined with "
      'config.mining.bank=True, because every device holds the bank: set '
      "exchange='gather'"
    )

  multiple_devices = mesh is not None and mesh.size > 1

  def from_candidates(
    random_bits: Any, anchors: Any, candidates: Any, positive: Any
  ) -> Any:
    return mining.select(
      random_bits, anchors, candidates, positive=positive, **options
    )

  def from_batch(random_bits: Any, anchors: Any, image: Any) -> Any:
    shard, text = anchors._replace(features=image), anchors.features
    if not multiple_devices:
      negatives = from_candidates(random_bits, anchors, shard, image)
      return negatives, image[negatives.index], text[negatives.index]
    if exchange == 'ring':
      search = collectives.ring_search('data')
      negatives = mining.select(
        random_bits, anchors, shard, positive=image, search=search, **options
      )
      neg_image = collectives.gather_rows(image, negatives.index, 'data')
    else:
      whole = jax.lax.all_gather(shard, 'data', tiled=True)
      negatives = from_candidates(random_bits, anchors, whole, image)
      neg_image = whole.features[negatives.index]
    neg_text = collectives.gather_rows(text, negatives.index, 'data')
    return negatives, neg_image, neg_text

  sharded, replicated = PartitionSpec('data'), PartitionSpec()

  def map_shards(function: Any, *in_specs: Any) -> Any:
    if not multiple_devices:
      return function
    return jax.shard_map(
      function, mesh=mesh, in_specs=in_specs, out_specs=sharded
    )

  return Mining(
    from_batch=map_shards(from_batch, sharded, sharded, sharded),
    from_candidates=map_shards(
      from_candidates, sharded, sharded, replicated, sharded
    ),
  )
