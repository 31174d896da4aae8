"""Mixing as data: a random draw (`Mix`) and its deterministic `apply`.

Every random function of jaxmix draws a small `Mix` from a key and a shape;
`apply` is deterministic. The four modes share one formula. A pixel of the
result is

    w * own + (1 - w) * partner[source]

where `w` comes from the mask outside the box and is 0 inside it, and `source`
is the pixel of the partner to read: the same position, unless the partner was
resized. So the mode is chosen among small arrays, and the images are read once.
(Only Puzzle Mix moves the blocks of both images first.)
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.boxes import inside
from jaxmix._src.checks import check_images, check_shape
from jaxmix._src.gather import move_blocks, take_pixels, take_samples
from jaxmix._src.platform import branch, by_platform
from jaxmix._src.settings import in_any_setting


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mix:
  """One random draw for a batch of `B` samples with `d` spatial axes.

  A pytree of small arrays: it passes through `jit`, `vmap`, `scan` and
  `shard_map`, can be stored, and can be applied to images, labels, segmentation
  masks or a second view, or by host code.

  Attributes:
    lam: float32 `[B]` in [0, 1]: the weight of the sample's own label. In the
      mask modes it is exactly the fraction of its own pixels.
    partner: int32 `[B]`: sample `i` is mixed with sample `partner[i]`.
    mode: int32 `[B]`: the mode that was drawn, as an index into the candidates
      of `jaxmix.draw_random_mix`. None: drawn by a single mode.
    mask: bool or float32 `[1 or B, *spatial]` (an axis may have size 1, to
      broadcast): the weight of the own pixel. None: 1 everywhere.
    box: int32 `[B, d, 2]`: the pixels from `[..., 0]` up to, but not including,
      `[..., 1]` come from the partner. None: no box.
    source: for each spatial axis int32 `[B, length]`: the partner's index that
      each row (column, ...) reads. None: the same index.
    resized: bool `[B]`: the samples whose partner is read at `source`; for the
      others `source` must be the same index. None: all samples.
    order: int32 `[B, 2, n, n]`: both images are cut into `n x n` blocks before
      they are mixed. Each entry is the number of the block (in row-major order)
      that is moved to this position; `[:, 0]` is for the sample, `[:, 1]` for
      its partner. None: no block is moved.
    spatial_shape: the lengths that the draw is for, which a box does not tell.
      None: not known.
    method: how a partner with a `source` is read: `'nearest'` reads at
      `source`; `'linear'` and `'cubic'` interpolate it to the size of the box.
  """

  lam: jax.Array
  partner: jax.Array
  mode: jax.Array | None = None
  mask: jax.Array | None = None
  box: jax.Array | None = None
  source: tuple[jax.Array, ...] | None = None
  resized: jax.Array | None = None
  order: jax.Array | None = None
  spatial_shape: tuple[int, ...] | None = dataclasses.field(
    default=None, metadata={'static': True}
  )
  method: str = dataclasses.field(default='nearest', metadata={'static': True})


@in_any_setting
def apply(
  mix: Mix,
  images: ArrayLike,
  *,
  hard: bool = False,
  postprocess: Callable[[jax.Array], jax.Array] | None = None,
  partner_images: ArrayLike | None = None,
) -> jax.Array:
  """Applies a draw to a batch of images: RandomMix, equations (1) and (2).

  A pixel that comes from one image only is copied, not computed: the result is
  exact in every dtype, and a NaN cannot leak from the other image. Two pixels
  are blended in float32 and rounded to the dtype of `images`.

  Args:
    mix: a draw for this batch size and these spatial axes.
    images: `[B, *spatial, C]`, floating point or uint8.
    hard: copies each pixel from the image with the larger weight; any dtype is
      allowed. For integer segmentation masks `[B, *spatial, 1]`.
    postprocess: function of the mixed images in float32, applied in the same
      pass over the memory; its input is not rounded. For example
      `lambda x: ((x / 255 - mean) / std).astype(jnp.bfloat16)` reads uint8 and
      writes the input of a network. (Normalising before or after the mixing is
      equivalent: the weights of a pixel add up to 1.)
    partner_images: a second batch of the shape and dtype of `images`: sample
      `i` is mixed with `partner_images[mix.partner[i]]`. None: `images`.

  Returns:
    The mixed images, with the shape and dtype of `images`, or the result of
    `postprocess`.

  Raises:
    TypeError: an integer dtype other than uint8 without `hard=True`.
    ValueError: rank below 3, `mix` was drawn for another shape, or
      `partner_images` have another shape or dtype.

  >>> import jaxmix
  >>> mix = jaxmix.draw_cutmix(jax.random.key(0), (8, 32, 32, 3))
  >>> masks = jnp.zeros((8, 32, 32, 1), jnp.int32)
  >>> jaxmix.apply(mix, masks, hard=True).dtype
  dtype('int32')
  """
  images = check_images(images, any_dtype=hard)
  _check_fits(mix, images.shape)
  others = images
  if partner_images is not None:
    others = _check_same_images(images, partner_images)
  if postprocess is not None and mix.method != 'nearest':
    # Interpolate in the precision of the result, without rounding.
    wide = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    dtype = jax.eval_shape(postprocess, wide).dtype
    images, others = images.astype(dtype), others.astype(dtype)
  finish = functools.partial(_combine, mix, images, hard, postprocess)

  def same_position() -> jax.Array:
    return finish(take_samples(others, mix.partner))

  def at_source() -> jax.Array:
    return finish(_resized_partners(mix, others, hard))

  if mix.source is None:
    return same_position()
  if mix.resized is None:
    return at_source()
  resized = jnp.any(mix.resized)
  if mix.method != 'nearest' and not hard:
    return branch(resized, at_source, same_position)
  # A GPU and a CPU read at `source` whether or not an image is resized: one
  # kernel and nothing to wait for on the one, all threads on the other.
  return by_platform(
    images,
    others,
    tpu=lambda *_: branch(resized, at_source, same_position),
    default=lambda *_: at_source(),
  )


def _combine(
  mix: Mix,
  images: jax.Array,
  hard: bool,
  postprocess: Callable[[jax.Array], jax.Array] | None,
  other: jax.Array,
) -> jax.Array:
  """Combines each image with the pixels of its partner."""
  if mix.order is not None:
    images = move_blocks(images, mix.order[:, 0])
    other = move_blocks(other, mix.order[:, 1])
  mixed = images
  mask = None if mix.mask is None else mix.mask[..., None]
  pasted = None
  if mix.box is not None:
    pasted = inside(mix.box, images.shape[1:-1])[..., None]
  if mask is not None and pasted is not None and mask.dtype != bool:
    mixed = by_platform(
      images,
      other,
      # A weight for each pixel would be an array larger than the images.
      tpu=lambda images, other: jnp.where(
        pasted, other, _by_mask(mask, images, other, hard)
      ),
      # The other pixel is used once, so that one kernel reads and mixes it.
      default=lambda images, other: _by_mask(
        jnp.where(pasted, 0.0, mask), images, other, hard
      ),
    )
  elif mask is not None and pasted is not None:
    mixed = jnp.where(mask & ~pasted, images, other)
  elif mask is not None:
    mixed = _by_mask(mask, images, other, hard)
  elif pasted is not None:
    mixed = jnp.where(~pasted, images, other)
  if postprocess is not None:
    return postprocess(mixed.astype(jnp.float32))
  if images.dtype == np.uint8:
    mixed = jnp.round(mixed)
  return mixed.astype(images.dtype)


def _by_mask(
  mask: jax.Array, images: jax.Array, other: jax.Array, hard: bool
) -> jax.Array:
  """Mixes by the weights of the own pixels."""
  if mask.dtype == bool:
    return jnp.where(mask, images, other)
  if hard:
    return jnp.where(mask >= 0.5, images, other)
  return blend(mask, images, other)


def blend(weight: jax.Array, images: jax.Array, other: jax.Array) -> jax.Array:
  """Returns the weighted mean in float32, exact where a weight is 0 or 1."""
  mean = weight * images + (1 - weight) * other
  if images.dtype == np.uint8:
    return mean  # small integers are exact and never NaN
  # Two selects in this order: a NaN or infinity with weight zero is never
  # used, and XLA's CPU code is twice as fast as for
  # where(weight >= 1, images, where(weight <= 0, other, mean)).
  nearest = jnp.where(weight >= 1, images, other)
  return jnp.where((weight >= 1) | (weight <= 0), nearest, mean)


def _resized_partners(mix: Mix, images: jax.Array, hard: bool) -> jax.Array:
  """Returns the pixel of the partner, one of `images`, for each pixel."""
  assert mix.source is not None
  if mix.method == 'nearest' or hard:
    return take_pixels(images, mix.partner, mix.source)
  partners = take_samples(images, mix.partner)
  placed = _interpolate(mix, partners)
  if mix.resized is None:
    return placed
  resized = mix.resized.reshape([-1] + [1] * (images.ndim - 1))
  return jnp.where(resized, placed, partners)


def _interpolate(mix: Mix, partners: jax.Array) -> jax.Array:
  """Resizes each partner into its box; pixels outside the box are not used.

  Equal to `jax.image.resize`, with one program for all sizes.
  """
  assert mix.box is not None
  spatial_shape = partners.shape[1:-1]
  start, stop = mix.box[..., 0], mix.box[..., 1]
  size = jnp.maximum(stop - start, 1)  # an empty box is not used
  # Two matrix products in the dtype of the images: bfloat16 suits matrix units,
  # and float32 keeps its precision.
  dtype = jnp.float32 if partners.dtype == np.uint8 else partners.dtype
  placed = jax.vmap(
    lambda image, scale, shift: jax.image.scale_and_translate(
      image.astype(dtype),
      image.shape,
      tuple(range(len(spatial_shape))),
      scale,
      shift,
      method=mix.method,
      antialias=True,
    )
  )(
    partners,
    size / jnp.asarray(spatial_shape, jnp.float32),
    start.astype(jnp.float32),
  )
  if partners.dtype == np.uint8:
    placed = jnp.clip(jnp.round(placed), 0, 255)
  return placed.astype(partners.dtype)


def _check_fits(mix: Mix, shape: tuple[int, ...]) -> None:
  """Raises ValueError unless `mix` was drawn for images of this shape."""
  batch, spatial_shape = check_shape(shape)
  drawn_batch = mix.partner.shape[0]
  if drawn_batch != batch:
    raise ValueError(
      f'mix was drawn for a batch of {drawn_batch}; got images of shape '
      f'{list(shape)}. One image needs a batch axis: images[None].'
    )
  # Any other length would broadcast the images.
  by_sample = {'lam': mix.lam, 'box': mix.box, 'order': mix.order}
  by_sample |= {'resized': mix.resized, 'mask': mix.mask}
  by_sample |= {f'source[{i}]': s for i, s in enumerate(mix.source or ())}
  for name, part in by_sample.items():
    lengths = (1, batch) if name == 'mask' else (batch,)
    if part is not None and part.shape[:1] not in [(n,) for n in lengths]:
      raise ValueError(
        f'mix.{name} has shape {list(part.shape)}; its first axis must be '
        f'{" or ".join(map(str, lengths))} for a batch of {batch}.'
      )
  fits = True
  if mix.mask is not None:
    lengths = mix.mask.shape[1:]
    fits &= len(lengths) == len(spatial_shape) and all(
      m in (1, n) for m, n in zip(lengths, spatial_shape, strict=True)
    )
  if mix.box is not None:
    fits &= mix.box.shape[1] == len(spatial_shape)
    fits &= mix.spatial_shape in (None, spatial_shape)
  if mix.source is not None:
    fits &= tuple(s.shape[1] for s in mix.source) == spatial_shape
  if mix.order is not None:
    counts = mix.order.shape[2:]
    fits &= len(counts) == len(spatial_shape) and all(
      length % count == 0
      for count, length in zip(counts, spatial_shape, strict=True)
    )
  if not fits:
    raise ValueError(
      f'mix was drawn for spatial axes {list(mix.spatial_shape or ())}; got '
      f'images of shape {list(shape)}, whose axes between the batch and the '
      f'channels are {list(spatial_shape)}. Images and masks without a channel '
      'axis need one: images[..., None].'
    )


def _check_same_images(images: jax.Array, partner_images: Any) -> jax.Array:
  """Returns `partner_images` if they have the shape and dtype of `images`."""
  if not hasattr(partner_images, 'dtype'):
    raise TypeError(
      f'partner_images must be an array; got {type(partner_images).__name__}.'
    )
  given, needed = (
    f'{array.dtype}{list(array.shape)}' for array in (partner_images, images)
  )
  if given != needed:
    raise ValueError(
      f'partner_images are {given}; they need the dtype and shape of images, '
      f'{needed}.'
    )
  return jnp.asarray(partner_images)
