"""Reference implementations in float64 numpy and plain loops.

Written from the papers' descriptions, not from jaxmix: slow,
obvious, and wrong in other ways than jaxmix would be.
"""

import numpy as np


def p_value(result):
  """The p-value of a test of scipy.stats."""
  return float(result[1])


def own_weight(mix, spatial_shape):
  """Weight of the own pixels, float64 `[B, *spatial_shape]`."""
  batch = len(mix.partner)
  weight = np.ones((batch, *spatial_shape))
  for b in range(batch):
    if mix.mask is not None:
      row = b if len(mix.mask) > 1 else 0
      weight[b] = np.broadcast_to(np.asarray(mix.mask)[row], spatial_shape)
    if mix.box is not None:
      weight[b][tuple(slice(*side) for side in np.asarray(mix.box)[b])] = 0
  return weight


def source_grid(mix, b, spatial_shape):
  """For sample `b` the partner's indices on each axis, open mesh."""
  if mix.source is None:
    return np.ix_(*(np.arange(n) for n in spatial_shape))
  return np.ix_(*(np.asarray(axis)[b] for axis in mix.source))


def apply_mix(mix, images):
  """`w * own + (1 - w) * partner[source]`, copying where w is 0 or 1."""
  spatial_shape = images.shape[1:-1]
  weight = own_weight(mix, spatial_shape)
  result = np.empty(images.shape)
  for b, partner in enumerate(np.asarray(mix.partner)):
    own = images[b].astype(float)
    other = images[partner].astype(float)[source_grid(mix, b, spatial_shape)]
    w = weight[b][..., None]
    with np.errstate(invalid='ignore'):
      blend = w * own + (1 - w) * other
    result[b] = np.where(w == 1, own, np.where(w == 0, other, blend))
  return result


def apply_adjoint(mix, cotangent):
  """The gradient of `sum(cotangent * apply_mix(mix, x))` in x."""
  spatial_shape = cotangent.shape[1:-1]
  weight = own_weight(mix, spatial_shape)
  result = np.zeros(cotangent.shape)
  for b, partner in enumerate(np.asarray(mix.partner)):
    w = weight[b][..., None]
    result[b] += w * cotangent[b]
    grid = source_grid(mix, b, spatial_shape)
    np.add.at(result[partner], grid, (1 - w) * cotangent[b])
  return result


def cut_box(lam, centre, spatial_shape):
  """The published CutMix box: `[n, d, 2]`, and the sides before flooring."""
  lam, centre = np.asarray(lam, float), np.asarray(centre)
  length = np.asarray(spatial_shape)
  side = length * (1 - lam[:, None]) ** (1 / len(spatial_shape))
  half = np.trunc(side).astype(int) // 2
  low = np.minimum(np.maximum(centre - half, 0), length)
  high = np.minimum(np.maximum(centre + half, 0), length)
  return np.stack([low, high], -1), side


def paste_start(size, centre, length):
  """The published ResizeMix start: end clipped first, start counted back."""
  start = np.clip(centre - size // 2, 0, length)
  end = np.clip(start + size, 0, length)
  return end - size


def near_integer(value, distance=1e-4):
  """Where float32 and float64 may floor to different integers."""
  return np.abs(value - np.round(value)) < distance


def box_fraction(box, spatial_shape):
  """Returns the fraction of the pixels inside each box."""
  sides = np.asarray(box, np.int64)
  return np.prod(sides[..., 1] - sides[..., 0], -1) / np.prod(spatial_shape)


def by_rank(field):
  """Pixels from the largest to the smallest, ties in reading order."""
  return np.argsort(-np.asarray(field, float).ravel(), kind='stable')


def top_pixels(field, count):
  """The `count` largest pixels, by a sort."""
  mask = np.zeros(field.size, bool)
  mask[by_rank(field)[:count]] = True
  return mask.reshape(field.shape)


def soft_top(field, count, soft):
  """`top_pixels` with ranks `count - soft` to `count + soft` falling to 0."""
  values = np.zeros(field.size)
  values[:count] = 1
  values[count - soft : count + soft] = np.linspace(1, 0, 2 * soft)
  mask = np.empty(field.size)
  mask[by_rank(field)] = values
  return mask.reshape(field.shape)


def official_frequency(spatial_shape):
  """The published table of frequencies, in cycles per pixel."""
  if len(spatial_shape) == 1:
    return np.abs(np.fft.fftfreq(spatial_shape[0]))
  columns = spatial_shape[1] // 2 + (1 if spatial_shape[1] % 2 == 0 else 2)
  squares = [np.fft.fftfreq(spatial_shape[0]) ** 2]
  if len(spatial_shape) == 3:
    squares.append(np.fft.fftfreq(spatial_shape[2]) ** 2)
  squares.append(np.fft.fftfreq(spatial_shape[1])[:columns] ** 2)
  grid = np.meshgrid(*squares, indexing='ij')
  return np.sqrt(sum(grid))


def official_field(normal, spatial_shape, decay):
  """The published code, its slip included: rows 0 and 1 are re and im.

  `normal` is the whole `[*official_frequency(spatial_shape).shape, 2]` array.
  """
  frequency = np.maximum(
    official_frequency(spatial_shape), 1 / max(spatial_shape)
  )
  scaled = normal * (1 / frequency**decay)[..., None]
  spectrum = scaled[0] + 1j * scaled[1]
  axes = range(len(spatial_shape))
  return np.fft.irfftn(spectrum, s=spatial_shape, axes=tuple(axes)).real


def frequency_length(spatial_shape):
  """Length of the frequency vector of each entry of `fftn`."""
  grid = np.meshgrid(*(np.fft.fftfreq(n) for n in spatial_shape), indexing='ij')
  return np.sqrt(sum(axis**2 for axis in grid))


def filtered_noise(rng, count, spatial_shape, decay):
  """White noise filtered by `1 / frequency^decay` over the full spectrum."""
  frequency = frequency_length(spatial_shape)
  gain = np.zeros(spatial_shape)
  gain[frequency > 0] = frequency[frequency > 0] ** -decay
  axes = tuple(range(1, len(spatial_shape) + 1))
  noise = np.fft.fftn(rng.normal(size=(count, *spatial_shape)), axes=axes)
  return np.fft.ifftn(noise * gain, axes=axes).real


def transitions(mask, axis):
  """Cyclic changes between 0 and 1 along an axis."""
  mask = np.asarray(mask, bool)
  return np.sum(mask != np.roll(mask, 1, axis), axis)


def resize_matrix(length, size, kernel):
  """Weights `[size, length]` of an antialiased reduction, half-pixel centres.

  The kernel is stretched by `length / size` and its weights add up to 1; taps
  outside the image are dropped.
  """
  stretch = max(length / size, 1)
  centre = (np.arange(size) + 0.5) * length / size - 0.5
  offset = np.abs(centre[:, None] - np.arange(length)) / stretch
  if kernel == 'linear':
    weight = np.maximum(1 - offset, 0)
  else:  # Keys' cubic, a = -1/2
    near = 1.5 * offset**3 - 2.5 * offset**2 + 1
    far = -0.5 * offset**3 + 2.5 * offset**2 - 4 * offset + 2
    weight = np.where(offset <= 1, near, np.where(offset < 2, far, 0))
  return weight / weight.sum(1, keepdims=True)
