"""Gathers of samples, of pixels and of blocks, in the program of the platform.

A CPU and a GPU compute an address for each pixel. A TPU has no such loop: XLA
re-lays the batch out and moves single pixels, which takes tens to hundreds of
times the bytes. There an index is a product with a one-hot matrix: exact in
bfloat16 for bytes, and any other dtype is taken byte by byte, so that every
platform returns the same bits and a NaN stays with its sample.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxmix._src.platform import by_platform

# The indices are in bounds; without the promise XLA clamps each of them.
_PROMISE = 'promise_in_bounds'
_LANES = 128  # of a TPU's registers


def take_samples(images: jax.Array, index: jax.Array) -> jax.Array:
  """Returns `images[index]`: sample `index[b]` for each b.

  Args:
    images: `[B, ...]`, of any dtype.
    index: int32 `[N]` in [0, B).

  >>> take_samples(jnp.array([[1], [2], [3]]), jnp.array([2, 0])).tolist()
  [[3], [1]]
  """
  return by_platform(
    images,
    index,
    tpu=exact_samples,
    default=index_samples,
  )


def exact_samples(images: jax.Array, index: jax.Array) -> jax.Array:
  """`take_samples` as products of bytes."""
  return _exact(product_of_samples, images, index)


def index_samples(images: jax.Array, index: jax.Array) -> jax.Array:
  """`take_samples` by address."""
  return images.at[index].get(mode=_PROMISE)


def product_of_samples(images: jax.Array, index: jax.Array) -> jax.Array:
  """`take_samples` as a product."""
  return _product('ab,b...->a...', index, len(images), images)


def take_pixels(
  images: jax.Array, partner: jax.Array, source: Sequence[jax.Array]
) -> jax.Array:
  """Returns pixel `source[:][b, :]` of sample `partner[b]` for each b.

  Args:
    images: `[B, *spatial, C]`, of any dtype.
    partner: int32 `[B]`.
    source: for each spatial axis int32 `[B, length]`, the index to read.

  >>> images = jnp.array([[[1], [2]], [[3], [4]]])
  >>> take_pixels(images, jnp.array([1, 0]), [jnp.array([[1, 0], [0, 0]])])[
  ...   ..., 0
  ... ].tolist()
  [[4, 3], [1, 1]]
  """
  return by_platform(
    images,
    partner,
    tuple(source),
    tpu=functools.partial(_exact, product_of_pixels),
    default=index_pixels,
  )


def index_pixels(
  images: jax.Array, partner: jax.Array, source: Sequence[jax.Array]
) -> jax.Array:
  """`take_pixels` by address."""
  axes = len(source)
  grid = [partner.reshape([-1] + [1] * axes)]
  for axis, index in enumerate(source):
    shape = [1] * (axes + 1)
    shape[0], shape[axis + 1] = index.shape
    grid.append(index.reshape(shape))
  return images.at[tuple(grid)].get(mode=_PROMISE)


def product_of_pixels(
  images: jax.Array, partner: jax.Array, source: Sequence[jax.Array]
) -> jax.Array:
  """`take_pixels` as one product for the samples and one for each axis."""
  shape = images.shape
  source = list(source)
  taken = product_of_samples(images, partner)
  if shape[-2] * shape[-1] <= _LANES:
    # The registers of a TPU would be mostly empty: use them for the channels.
    channel = jnp.arange(shape[-1])
    last = source[-1][:, :, None] * shape[-1] + channel
    source[-1] = last.reshape(len(last), -1)
    taken = taken.reshape(*shape[:-2], -1, 1)
  letters = 'cdefgh'[: len(source)]
  for axis, index in enumerate(source):
    read, written = letters, letters.replace(letters[axis], 'z')
    taken = _product(
      f'bz{letters[axis]},b{read}...->b{written}...',
      index,
      taken.shape[axis + 1],
      taken,
    )
  # The products above put the samples first, and the images of a TPU have them
  # last. A product with the identity changes the layout of this array; without
  # it XLA would change that of everything that the result is combined with.
  return product_of_samples(taken.reshape(shape), jnp.arange(len(images)))


def move_blocks(images: jax.Array, order: jax.Array) -> jax.Array:
  """Moves block `order[b, i, j]` of each image to position `(i, j)`.

  Args:
    images: `[B, H, W, C]`, of any dtype, with sides that are multiples of `n`.
    order: int32 `[B, n, n]`, block numbers in row-major order.

  >>> row = jnp.array([1, 2, 3, 4]).reshape(1, 4, 1, 1)
  >>> image = jnp.broadcast_to(row, (1, 4, 2, 1))
  >>> move_blocks(image, jnp.array([[[2, 3], [0, 1]]]))[0, :, 0, 0].tolist()
  [3, 4, 1, 2]
  """
  return by_platform(
    images,
    order,
    tpu=functools.partial(_exact, product_of_moved_blocks),
    default=index_moved_blocks,
  )


def index_moved_blocks(images: jax.Array, order: jax.Array) -> jax.Array:
  """`move_blocks` by address."""
  count = order.shape[1]
  sample = jnp.arange(len(images)).reshape(-1, 1, 1)
  return _index_blocks(images, sample, order // count, order % count)


def product_of_moved_blocks(images: jax.Array, order: jax.Array) -> jax.Array:
  """`move_blocks` as a product for each image."""
  count = order.shape[1]
  blocks = _cut(images, count)
  index = order.reshape(len(order), -1)
  return _join(
    _product('bzk,bk...->bz...', index, count**2, blocks), images.shape, count
  )


def take_blocks(images: jax.Array, owner: jax.Array) -> jax.Array:
  """Takes each block from image `owner[b, i, j]`, at the same position.

  Args:
    images: `[B, H, W, C]`, of any dtype, with sides that are multiples of `n`.
    owner: int32 `[B, n, n]` in [0, B).

  >>> images = jnp.array([[[[1], [2]]] * 2, [[[3], [4]]] * 2])
  >>> take_blocks(images, jnp.array([[[0, 1], [1, 0]]] * 2))[0, ..., 0].tolist()
  [[1, 4], [3, 2]]
  """
  return by_platform(
    images,
    owner,
    tpu=functools.partial(_exact, product_of_taken_blocks),
    default=index_taken_blocks,
  )


def index_taken_blocks(images: jax.Array, owner: jax.Array) -> jax.Array:
  """`take_blocks` by address."""
  position = jnp.arange(owner.shape[1])
  return _index_blocks(images, owner, position[:, None], position)


def product_of_taken_blocks(images: jax.Array, owner: jax.Array) -> jax.Array:
  """`take_blocks` as a product for each position."""
  count = owner.shape[1]
  blocks = _cut(images, count)
  index = owner.reshape(len(owner), -1)
  return _join(
    _product('bka,ak...->bk...', index, len(images), blocks),
    images.shape,
    count,
  )


def _index_blocks(
  images: jax.Array, sample: jax.Array, row: jax.Array, column: jax.Array
) -> jax.Array:
  """Assembles images from blocks given by their sample, row and column.

  The three index arrays broadcast to `[B, n, n]`.
  """
  _, height, width, channels = images.shape
  shape = jnp.broadcast_shapes(sample.shape, row.shape, column.shape)
  count = shape[1]
  cut = (len(images), count, height // count, count, width // count, channels)
  # The slice between the indices moves the pixel axes behind the block axes.
  chosen = images.reshape(cut).at[sample, row, :, column].get(mode=_PROMISE)
  return chosen.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def _cut(images: jax.Array, count: int) -> jax.Array:
  """Returns the blocks of images: `[B, count^2, h, w, C]`."""
  batch, height, width, channels = images.shape
  cut = (batch, count, height // count, count, width // count, channels)
  blocks = images.reshape(cut).swapaxes(2, 3)
  return blocks.reshape(batch, count**2, *blocks.shape[3:])


def _join(blocks: jax.Array, shape: Sequence[int], count: int) -> jax.Array:
  """Returns the images of blocks; undoes `_cut`."""
  batch, _, *size = blocks.shape
  return (
    blocks.reshape(batch, count, count, *size).swapaxes(2, 3).reshape(shape)
  )


def _product(
  equation: str, index: jax.Array, count: int, values: jax.Array
) -> jax.Array:
  """Returns an einsum of one-hot vectors and values, in the values' dtype."""
  if values.dtype == jnp.uint8:
    one_hot = jax.nn.one_hot(index, count, dtype=jnp.bfloat16)
    return jnp.einsum(
      equation,
      one_hot,
      values.astype(jnp.bfloat16),
      preferred_element_type=jnp.bfloat16,
    ).astype(jnp.uint8)
  one_hot = jax.nn.one_hot(index, count, dtype=values.dtype)
  return jnp.einsum(equation, one_hot, values, precision='highest')


def _exact(
  product: Callable[..., jax.Array], values: jax.Array, *indices: jax.Array
) -> jax.Array:
  """Takes values of any dtype by products of their bytes."""
  dtype = values.dtype
  if jnp.issubdtype(dtype, jnp.bool):
    return product(values.astype(jnp.uint8), *indices).astype(bool)
  if jnp.issubdtype(dtype, jnp.floating):
    return _exact_float(product, values, *indices)
  return _by_bytes(product, values, *indices)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _exact_float(
  product: Callable[..., jax.Array], values: jax.Array, *indices: jax.Array
) -> jax.Array:
  return _by_bytes(product, values, *indices)


@_exact_float.defjvp
def _exact_float_jvp(
  product: Callable[..., jax.Array],
  primals: tuple[jax.Array, ...],
  tangents: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array]:
  _, *indices = primals
  return _exact_float(product, *primals), product(tangents[0], *indices)


def _by_bytes(
  product: Callable[..., jax.Array], values: jax.Array, *indices: jax.Array
) -> jax.Array:
  unsigned = jnp.dtype(f'uint{8 * values.dtype.itemsize}')
  bits = jax.lax.bitcast_convert_type(values, unsigned)
  parts = [
    product((bits >> shift).astype(jnp.uint8), *indices).astype(unsigned)
    << shift
    for shift in range(0, 8 * unsigned.itemsize, 8)
  ]
  taken = functools.reduce(jnp.bitwise_or, parts)
  return jax.lax.bitcast_convert_type(taken, values.dtype)
