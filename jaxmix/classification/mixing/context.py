"""MixContext (the inputs of a mixing method) and Mixed (its output)."""

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
  """The batch, the network and the devices that a mixing is made for.

  A batch is split into equal parts, one for each virtual device, whatever
  devices there are. Partners are within a part, and their indices count from
  its beginning.

  Attributes:
    virtual_batch_size: the number of examples of a virtual device.
    image_shape: `(H, W, C)`.
    num_classes: labels are 0..num_classes-1.
    mesh: its axis `data` splits the batch. If every device has whole virtual
      devices, no mixing moves pixels between devices. None: the batch is on one
      device.
    postprocess: maps uint8 pixels, as float32, to the input of the network.
    activation_shapes: returns the shapes `(H, W, C)` of the activations of the
      network, of which number 0 is its input.
    virtual_devices: their number.
  """

  virtual_batch_size: int
  image_shape: tuple[int, ...]
  num_classes: int
  mesh: Mesh | None
  postprocess: Callable[[jax.Array], jax.Array]
  activation_shapes: Callable[[], tuple[tuple[int, ...], ...]] = tuple
  virtual_devices: int = 1

  def map_examples(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function`, called by each device on its examples.

    The function must treat every example independently of the others.
    """
    if self.mesh is None:
      return function
    split = PartitionSpec('data')
    return jax.shard_map(
      function, mesh=self.mesh, in_specs=split, out_specs=split, check_vma=False
    )

  def map_virtual_devices(
    self, function: Callable[..., Any], *specs: PartitionSpec
  ) -> Callable[..., Any]:
    """Returns `function`, called on the examples of each virtual device.

    Where these lie on several devices, jit collects them.

    Args:
      function: maps arrays with a leading batch axis to such arrays.
      *specs: of the arguments, if not all are split over the devices; an
        argument with `PartitionSpec()` is the same for all virtual devices.
    """
    devices = 1 if self.mesh is None else self.mesh.size
    whole = self.virtual_devices % devices == 0
    count = self.virtual_devices // devices if whole else self.virtual_devices

    def part(*arguments: Any) -> Any:
      if count == 1:
        return function(*arguments)
      split = [spec != PartitionSpec() for spec in specs] or [True]
      split = split * (len(arguments) // len(split))
      parts = [
        jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), x)
        if s
        else x
        for x, s in zip(arguments, split, strict=True)
      ]
      axes = [0 if s else None for s in split]
      results = jax.vmap(function, axes)(*parts)
      return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)

    if self.mesh is None or not whole:
      return part
    split = PartitionSpec('data')
    return jax.shard_map(
      part,
      mesh=self.mesh,
      in_specs=specs or split,
      out_specs=split,
      check_vma=False,
    )

  def map_with_keys(
    self, mix: Callable[..., Any], *names: str, different_keys: bool
  ) -> Callable[..., Any]:
    """Returns `mix`, called on the examples of each virtual device with a key.

    Args:
      mix: a function of a key and of arrays with a leading batch axis.
      *names: of those arrays: 'images', 'labels' or 'saliency'.
      different_keys: whether the virtual devices have different keys.

    Returns:
      A function of the key, the indices of the virtual devices, and those
      arrays.

    Raises:
      ValueError: what `mix` raises for such arrays, naming config.mix.
    """
    check_draw(mix, *[self._abstract_part(name) for name in names])

    def mix_part(key: jax.Array, indices: jax.Array, *arrays: jax.Array) -> Any:
      if different_keys:
        key = jax.random.fold_in(key, indices[0])
      return mix(key, *arrays)

    split = PartitionSpec('data')
    return self.map_virtual_devices(
      mix_part, PartitionSpec(), split, *[split] * len(names)
    )

  def _abstract_part(self, name: str) -> jax.ShapeDtypeStruct:
    plane = (self.virtual_batch_size, *self.image_shape[:2])
    return {
      'images': jax.ShapeDtypeStruct((*plane, self.image_shape[2]), jnp.uint8),
      'labels': jax.ShapeDtypeStruct((self.virtual_batch_size,), jnp.int32),
      'saliency': jax.ShapeDtypeStruct(plane, jnp.float32),
    }[name]


def check_draw(draw: Callable[..., Any], *batch: jax.ShapeDtypeStruct) -> None:
  """Raises ValueError, naming config.mix, for what would fail in step 1."""
  try:
    jax.eval_shape(draw, jax.random.key(0), *batch)
  except (TypeError, ValueError) as error:
    # The messages of jaxmix begin with the argument, which is the field.
    raise ValueError(f'config.mix.{error}') from error


class Mixed(NamedTuple):
  """The result of a mixing of `(key, indices, images, labels, network)`.

  `indices` int32 `[V]` are those of the virtual devices of the batch, `images`
  are uint8 `[B, H, W, C]`, `labels` int32 `[B]`. `network` maps postprocessed
  images to logits in training mode; its statistics are dropped.

  Attributes:
    images: `[B, H, W, C]`, postprocessed.
    targets: what the logits of these images are compared with.
    activation_hook: maps `(k, activations)` to what replaces the activations
      number k, `[B, H, W, C]`. None: they stay.
    loss_factor: float32 `[]`, what the loss is multiplied by. None: 1.
  """

  images: jax.Array
  targets: Targets
  activation_hook: Callable[[int, jax.Array], jax.Array] | None = None
  loss_factor: jax.Array | None = None
