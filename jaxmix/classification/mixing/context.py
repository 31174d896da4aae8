"""What every kind of mixing is given, and what it gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxmix.classification.losses import Targets

Network = Callable[[jax.Array], jax.Array]
Mixing = Callable[
  [jax.Array, jax.Array, jax.Array, jax.Array, Network], 'Mixed'
]


class MixContext(NamedTuple):
  """Where a mixing is made for.

  A batch is equal parts, its shards, whatever devices there are. Partners are
  found within a shard, and counted from its beginning.

  Attributes:
    rows: how many examples a shard has.
    image_shape: `(H, W, C)`.
    num_classes: labels are 0..num_classes-1.
    mesh: its axis `data` splits the batch. If every device has whole shards, no
      mixing moves pixels along it. None: the batch is on one device.
    postprocess: uint8 pixels, as float32, to what the network takes.
    states: gives the shapes `(H, W, C)` of the network's states, of which 0 is
      its input.
    shards: how many a batch has.
  """

  rows: int
  image_shape: tuple[int, ...]
  num_classes: int
  mesh: Mesh | None
  postprocess: Callable[[jax.Array], jax.Array]
  states: Callable[[], tuple[tuple[int, ...], ...]] = tuple
  shards: int = 1

  def by_rows(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """Has each device call `function`, which is of single rows, on its own."""
    if self.mesh is None:
      return function
    rows = PartitionSpec('data')
    return jax.shard_map(
      function, mesh=self.mesh, in_specs=rows, out_specs=rows, check_vma=False
    )

  def by_shards(
    self, function: Callable[..., Any], *specs: PartitionSpec
  ) -> Callable[..., Any]:
    """Has `function` called on the rows of each shard.

    Where no device has whole shards, jit collects them.

    Args:
      function: of arrays with a leading batch axis; so are its results.
      *specs: of the arguments, where not all are split: `PartitionSpec()` is
        the same everywhere.
    """
    devices = 1 if self.mesh is None else self.mesh.size
    whole = self.shards % devices == 0
    count = self.shards // devices if whole else self.shards

    def part(*arguments: Any) -> Any:
      if count == 1:
        return function(*arguments)
      split = [spec != PartitionSpec() for spec in specs] or [True]
      split = split * (len(arguments) // len(split))
      shards = [
        jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), x)
        if s
        else x
        for x, s in zip(arguments, split, strict=True)
      ]
      axes = [0 if s else None for s in split]
      results = jax.vmap(function, axes)(*shards)
      return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)

    if self.mesh is None or not whole:
      return part
    rows = PartitionSpec('data')
    return jax.shard_map(
      part,
      mesh=self.mesh,
      in_specs=specs or rows,
      out_specs=rows,
      check_vma=False,
    )

  def by_key(
    self, mix: Callable[..., Any], *names: str, anew: bool
  ) -> Callable[..., Any]:
    """Has the rows of each shard mixed, where they are.

    Args:
      mix: of a key and of arrays with a leading batch axis.
      *names: of those arrays: 'images', 'labels' or 'saliency'.
      anew: whether every shard draws by a key of its own, or all by the same.

    Returns:
      A function of the key, the numbers of the shards, and those arrays.

    Raises:
      ValueError: what `mix` refuses, naming config.mix.
    """
    check(mix, *[self._batch(name) for name in names])

    def part(key: jax.Array, shards: jax.Array, *rows: jax.Array) -> Any:
      return mix(jax.random.fold_in(key, shards[0]) if anew else key, *rows)

    rows = PartitionSpec('data')
    return self.by_shards(part, PartitionSpec(), rows, *[rows] * len(names))

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
  """What a mixing makes of `(key, shards, images, labels, network)`.

  `shards` int32 `[S]` are the numbers of the shards in the batch, `images` are
  uint8 `[B, H, W, C]`, `labels` int32 `[B]`. `network` maps finished images to
  logits in training mode; its statistics are dropped.

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
