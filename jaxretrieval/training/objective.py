"""Objective of the retrieval trainer: the loss and the miner of a config."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxretrieval import collectives, losses, mining


class Loss(NamedTuple):
  """A loss of the trainer; its fields of `config.loss` are keyword arguments.

  Attributes:
    function: a function of `jaxretrieval.losses`.
    negatives: the number of its arguments after text and image: 2 for the
      negative images and texts, 1 for the images, 0 if it uses all pairs of a
      batch and takes `same` instead of `where`.
    options: the schema of each field, see `launch.schema`.
    lengths: fields that are squared distances in the unit `config.loss.unit`:
      'mean_square' is the mean squared norm of the training images, 'raw' the
      squared unit of the stored features.
  """

  function: Callable[..., jax.Array]
  negatives: int
  options: Mapping[str, Any] = {}
  lengths: tuple[str, ...] = ()


_WEIGHT = {'type': 'number', 'minimum': 0, 'maximum': 1e6}
# The losses by `config.loss.name`.
LOSSES = {
  'm3l': Loss(
    losses.m3l,
    negatives=2,
    options={
      'objective': {'type': 'string', 'enum': ['ratio', 'log']},
      'rho': {'type': 'number', 'minimum': 1e-9, 'maximum': 1e9},
      'alpha1': _WEIGHT,
      'alpha2': _WEIGHT,
    },
  ),
  'patr': Loss(losses.patr, negatives=1, lengths=('eta',)),
  'triplet': Loss(losses.triplet, negatives=1, lengths=('margin',)),
  'info_nce': Loss(
    losses.info_nce,
    negatives=0,
    options={'symmetric': {'type': 'boolean'}},
    lengths=('temperature',),
  ),
}


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
    ValueError: the loss refuses a combination of fields.
  """
  fields = dict(loss_config)
  loss = LOSSES[fields['name']]
  options = {field: fields[field] for field in loss.options}

  def scaled(constants: Any, length: float) -> Any:
    relative = fields['unit'] == 'mean_square'
    raw = constants['image_mean_square'] if relative else 1.0
    return length * raw / constants['image_scale'] ** 2

  def loss_fn(
    constants: Any, text: Any, image: Any, *negatives: Any, **examples: Any
  ) -> jax.Array:
    lengths = {
      field: scaled(constants, fields[field]) for field in loss.lengths
    }
    negatives = negatives[: loss.negatives]
    return loss.function(
      text, image, *negatives, **examples, **options, **lengths
    )

  # Trace it now: an error in the first step would not name the config field.
  features = jax.ShapeDtypeStruct((2, 2), jnp.float32)
  try:
    jax.eval_shape(
      loss_fn,
      {'image_mean_square': 1.0, 'image_scale': 1.0},
      *[features] * (2 + loss.negatives),
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
    ValueError: `mining.select` refuses an option, or `config.mining.exchange`
      is 'ring' with a bank.
  """
  select = functools.partial(
    mining.select,
    miner=mining_config.miner,
    ranks=tuple(mining_config.ranks),
    block_size=mining_config.block_size,
  )
  features = jax.ShapeDtypeStruct((2, 2), jnp.float32)
  ids = jax.ShapeDtypeStruct((2,), jnp.int32)
  items: Any = mining.Items(features, ids)  # pyright: ignore[reportArgumentType]
  try:
    jax.eval_shape(
      select,
      jax.ShapeDtypeStruct((2,), jnp.uint32),
      items,
      items,
      positive=features,
    )
  except ValueError as error:
    raise ValueError(f'config.mining.{error}') from error
  if mining_config.exchange == 'ring' and mining_config.bank:
    raise ValueError(
      "config.mining.exchange='ring' cannot be combined with "
      'config.mining.bank=True, because every device holds the bank: set '
      "exchange='gather'"
    )

  from_candidates = functools.partial(_from_candidates, select)
  if mesh is None or mesh.size == 1:
    return Mining(functools.partial(_from_batch, select), from_candidates)
  exchange = EXCHANGES[mining_config.exchange]
  sharded, replicated = PartitionSpec('data'), PartitionSpec()
  map_shards = functools.partial(jax.shard_map, mesh=mesh, out_specs=sharded)
  return Mining(
    from_batch=map_shards(
      functools.partial(_from_sharded_batch, select, exchange),
      in_specs=(sharded, sharded, sharded),
    ),
    from_candidates=map_shards(
      from_candidates, in_specs=(sharded, sharded, replicated, sharded)
    ),
  )


def _from_candidates(
  select: Any, random_bits: Any, anchors: Any, candidates: Any, positive: Any
) -> mining.Negatives:
  return select(random_bits, anchors, candidates, positive=positive)


def _from_batch(select: Any, random_bits: Any, anchors: Any, image: Any) -> Any:
  candidates = anchors._replace(features=image)
  negatives = select(random_bits, anchors, candidates, positive=image)
  return negatives, image[negatives.index], anchors.features[negatives.index]


def _from_sharded_batch(
  select: Any, exchange: Any, random_bits: Any, anchors: Any, image: Any
) -> Any:
  """Mines from all shards of a batch; `exchange` is `_gather` or `_ring`."""
  shard = anchors._replace(features=image)
  select = functools.partial(select, random_bits, anchors, positive=image)
  negatives, neg_image = exchange(select, shard)
  neg_text = collectives.gather_rows(anchors.features, negatives.index, 'data')
  return negatives, neg_image, neg_text


def _gather(select: Any, shard: mining.Items) -> Any:
  whole = jax.lax.all_gather(shard, 'data', tiled=True)
  negatives = select(whole)
  return negatives, whole.features[negatives.index]


def _ring(select: Any, shard: mining.Items) -> Any:
  negatives = select(shard, search=collectives.ring_search('data'))
  images = collectives.gather_rows(shard.features, negatives.index, 'data')
  return negatives, images


# How devices search the images of the other shards of a batch.
EXCHANGES = {'gather': _gather, 'ring': _ring}
