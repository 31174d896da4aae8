"""The loss and the miner that a config describes."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxretrieval import collectives, losses, mining

# The fields of config.loss by its name. Lengths are squared, in its unit:
# 'mean_square' is the mean squared norm of the training images, 'raw' that of
# the features as they are stored.
LOSSES = {
  'm3l': {'objective', 'rho', 'alpha1', 'alpha2'},
  'patr': {'eta', 'unit'},
  'triplet': {'margin', 'unit'},
  'info_nce': {'temperature', 'symmetric', 'unit'},
}
LENGTHS = {'eta', 'margin', 'temperature'}
UNITS = ('mean_square', 'raw')
# How the devices see the images of each other's part of a batch.
EXCHANGES = ('gather', 'ring')


class Mining(NamedTuple):
  """Two ways to find negatives.

  Attributes:
    from_batch: `(bits, anchors, image)` gives the picks from the batch, which
      is split over the devices, and their images and texts.
    from_gallery: `(bits, anchors, gallery, positive)` gives the picks from a
      gallery that every device has whole.
  """

  from_batch: Callable[..., tuple[mining.Negatives, jax.Array, jax.Array]]
  from_gallery: Callable[..., mining.Negatives]


def make_loss_fn(loss_config: Any) -> Callable[..., jax.Array]:
  """Makes the loss of `config.loss`, in units of scaled features.

  Returns:
    `compare(constants, text, image, neg_image, neg_text, where=...)`, or
    `compare(constants, text, image, same=...)` for InfoNCE.

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
      f'config.loss has the fields {sorted(fields)}; {name} has '
      f'{sorted(LOSSES[name])} (the argument of a config, such as '
      f':loss={name}, sets them all)'
    )
  unit = fields.pop('unit', 'raw')
  if unit not in UNITS:
    raise ValueError(f'config.loss.unit={unit!r} must be one of {UNITS}')
  for field in LENGTHS & fields.keys():
    if not 0 < fields[field] < np.inf:
      raise ValueError(f'config.loss.{field}={fields[field]!r} must be above 0')

  def scaled(constants: Any, length: float) -> Any:
    raw = constants['image_mean_square'] if unit == 'mean_square' else 1.0
    return length * raw / constants['image_scale'] ** 2

  def compare(
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

  # What is wrong would be raised in the first step, without naming the config.
  row = jax.ShapeDtypeStruct((2, 2), jnp.float32)
  try:
    rows = [row] * (2 if name == 'info_nce' else 4)
    jax.eval_shape(
      compare, {'image_mean_square': 1.0, 'image_scale': 1.0}, *rows
    )
  except ValueError as error:
    # Its messages begin with the argument, which is the field.
    raise ValueError(f'config.loss.{error}') from error
  return compare


def make_mining(mining_config: Any, mesh: Mesh | None) -> Mining:
  """Makes what finds the negatives of `config.mining`.

  Each device picks for its own anchors, and the picks are those of one device.

  Raises:
    ValueError: what `mining.select` refuses, naming config.mining; there is no
      such exchange, or nothing that it could exchange.
  """
  options = {
    'miner': mining_config.miner,
    'ranks': tuple(mining_config.ranks),
    'block_size': mining_config.block_size,
  }
  row = jax.ShapeDtypeStruct((2, 2), jnp.float32)
  ids = jax.ShapeDtypeStruct((2,), jnp.int32)
  items: Any = mining.Items(row, ids)  # pyright: ignore[reportArgumentType]
  try:
    jax.eval_shape(
      functools.partial(mining.select, **options),
      jax.ShapeDtypeStruct((2,), jnp.uint32),
      items,
      items,
      positive=row,
    )
  except ValueError as error:
    raise ValueError(f'config.mining.{error}') from error
  how = mining_config.exchange
  if how not in EXCHANGES:
    raise ValueError(
      f'config.mining.exchange={how!r} must be one of {", ".join(EXCHANGES)}'
    )
  if how == 'ring' and mining_config.bank:
    raise ValueError(
      "config.mining.exchange='ring' and config.mining.bank=True: every device "
      "has the bank, there is nothing to exchange; set exchange='gather'"
    )

  many = mesh is not None and mesh.size > 1

  def from_gallery(bits: Any, anchors: Any, gallery: Any, positive: Any) -> Any:
    return mining.select(bits, anchors, gallery, positive=positive, **options)

  def from_batch(bits: Any, anchors: Any, image: Any) -> Any:
    part, text = anchors._replace(features=image), anchors.features
    if not many:
      picked = from_gallery(bits, anchors, part, image)
      return picked, image[picked.index], text[picked.index]
    if how == 'ring':
      visit = collectives.ring('data')
      picked = mining.select(
        bits, anchors, part, positive=image, visit=visit, **options
      )
      neg_image = collectives.take(image, picked.index, 'data')
    else:
      whole = jax.lax.all_gather(part, 'data', tiled=True)
      picked = from_gallery(bits, anchors, whole, image)
      neg_image = whole.features[picked.index]
    return picked, neg_image, collectives.take(text, picked.index, 'data')

  rows, everywhere = PartitionSpec('data'), PartitionSpec()

  def on_each_device(function: Any, *in_specs: Any) -> Any:
    if not many:
      return function
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=rows)

  return Mining(
    from_batch=on_each_device(from_batch, rows, rows, rows),
    from_gallery=on_each_device(from_gallery, rows, rows, everywhere, rows),
  )
