"""What every kind of mixing is given, and what it gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxmix.classification.losses import Targets

Network = Callable[[jax.Array], jax.Array]
Mixing = Callable[[jax.Array, jax.Array, jax.Array, Network], 'Mixed']


class Place(NamedTuple):
  """Where a mixing is made for.

  Attributes:
    rows: how many examples of a batch a device has.
    image_shape: `(H, W, C)`.
    num_classes: labels are 0..num_classes-1.
    mesh: its axis `data` shards the batch. No mixing moves pixels along it:
      partners are found within a device's part, and counted from its beginning.
    finish: uint8 pixels, as float32, to what the network takes.
    states: gives the shapes `(H, W, C)` of the network's states, of which 0 is
      its input.
  """

  rows: int
  image_shape: tuple[int, ...]
  num_classes: int
  mesh: Mesh
  finish: Callable[[jax.Array], jax.Array]
  states: Callable[[], tuple[tuple[int, ...], ...]] = tuple

  def by_rows(
    self, function: Callable[..., Any], *specs: PartitionSpec
  ) -> Callable[..., Any]:
    """Has each device call `function` on its rows of every argument.

    Args:
      function: of arrays with a leading batch axis; so are its results.
      *specs: of the arguments, where not all are split: `PartitionSpec()` is
        the same everywhere.
    """
    rows = PartitionSpec('data')
    return jax.shard_map(
      function,
      mesh=self.mesh,
      in_specs=specs or rows,
      out_specs=rows,
      check_vma=False,
    )

  def by_key(
    self, mix: Callable[..., Any], *names: str, anew: bool
  ) -> Callable[..., Any]:
    """Has each device mix its rows.

    Args:
      mix: of a key and of arrays with a leading batch axis.
      *names: of those arrays: 'images', 'labels' or 'saliency'.
      anew: whether every device draws by a key of its own, or all by the same.

    Raises:
      ValueError: what `mix` refuses, naming config.mix.
    """
    check(mix, *[self._batch(name) for name in names])

    def part(key: jax.Array, *rows: jax.Array) -> Any:
      if anew:
        key = jax.random.fold_in(key, jax.lax.axis_index('data'))
      return mix(key, *rows)

    specs = [PartitionSpec('data')] * len(names)
    return self.by_rows(part, PartitionSpec(), *specs)

  def _batch(self, name: str) -> jax.ShapeDtypeStruct:
    plane = (self.rows, *self.image_shape[:2])
    return {
      'images': jax.ShapeDtypeStruct((*plane, self.image_shape[2]), jnp.uint8),
      'labels': jax.ShapeDtypeStruct((self.rows,), jnp.int32),
      'saliency': jax.ShapeDtypeStruct(plane, jnp.float32),
    }[name]


def check(draw: Callable[..., Any], *batch: jax.ShapeDtypeStruct) -> None:
  """Finds now what a draw would refuse in the first step.

  Raises:
    ValueError: names config.mix.
  """
  try:
    jax.eval_shape(draw, jax.random.key(0), *batch)
  except (TypeError, ValueError) as error:
    # Its messages begin with the argument, which is the field.
    raise ValueError(f'config.mix.{error}') from error


class Mixed(NamedTuple):
  """What a mixing makes of `(key, images, labels, network)`.

  `images` are uint8 `[B, H, W, C]`, `labels` int32 `[B]`. `network` maps
  finished images to logits in training mode; its statistics are dropped.

  Attributes:
    images: `[B, H, W, C]`, finished.
    targets: what the logits of these images are compared with.
    hidden: `(k, states)` to what the network goes on with in place of its
      states `k`, `[B, H, W, C]`. None: they stay.
    factor: float32 `[]`, what the loss is multiplied by. None: nothing.
  """

  images: jax.Array
  targets: Targets
  hidden: Callable[[int, jax.Array], jax.Array] | None = None
  factor: jax.Array | None = None
