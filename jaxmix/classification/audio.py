"""Sounds on the device: distorted as draw and apply, then log-mel pictures.

The 32x32 pictures are those of FMix's experiment on Google Speech Commands: a
second in frames of 128 ms every 32 ms, 32 mel bands, decibels below the loudest
(80 at most), mapped from [-80, 0] to [-0.5, 0.5].
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

FRAMES = BANDS = 32
_FLOOR = 1e-10  # of a power, before its logarithm
_RANGE = 80.0  # decibels


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Distortion:
  """What was drawn for a batch of sounds of T samples.

  Attributes:
    shift: int32 `[B]`, samples that a sound is late.
    speed: float32 `[B]`, above 1 is faster and higher.
    noise: float32 `[B, T]` of a mean square of 1.
    share: float32 `[B]` of the noise, in [0, 1].
  """

  shift: jax.Array
  speed: jax.Array
  noise: jax.Array
  share: jax.Array


def draw_distortion(
  keys: jax.Array,
  samples: int,
  *,
  shift: int,
  speed: float,
  noise: float,
) -> Distortion:
  """Draws shifts, speeds and noise, each for half of the sounds.

  The noise has a spectrum of 1 / f^b, b uniform in [0, 2]: from white to brown.

  Args:
    keys: random keys `[B]`, one for each sound: what is drawn for it depends on
      no other, nor on how many devices share the batch.
    samples: T, of each.
    shift: the most that one is early or late, in samples.
    speed: the most by which one is faster or slower, in [0, 1).
    noise: the largest share of noise, in [0, 1].

  >>> keys = jax.random.split(jax.random.key(0), 2)
  >>> drawn = draw_distortion(keys, 64, shift=8, speed=0.2, noise=0.4)
  >>> drawn.noise.shape
  (2, 64)
  """

  def draw(key: jax.Array) -> Distortion:
    keys = jax.random.split(key, 8)

    def half(key: jax.Array, drawn: jax.Array, otherwise: float) -> jax.Array:
      return jnp.where(jax.random.bernoulli(key), drawn, otherwise)

    late = jax.random.randint(keys[0], (), -shift, shift + 1)
    faster = jax.random.uniform(keys[1], (), minval=-speed, maxval=speed)
    share = jax.random.uniform(keys[2], (), maxval=noise)
    power = jax.random.uniform(keys[3], (), maxval=2.0)
    spectrum = jnp.fft.rfft(jax.random.normal(keys[4], (samples,)))
    frequency = jnp.maximum(jnp.arange(len(spectrum)), 1.0)
    coloured = jnp.fft.irfft(spectrum * frequency ** (-power / 2), samples)
    return Distortion(
      half(keys[5], late, 0),
      half(keys[6], 1 + faster, 1.0),
      coloured / _rms(coloured),
      half(keys[7], share, 0.0),
    )

  return jax.vmap(draw)(keys)


def distort(drawn: Distortion, waveforms: jax.Array) -> jax.Array:
  """Resamples (linearly), shifts and adds noise, as loud as its share.

  Args:
    drawn: of this batch.
    waveforms: `[B, T]`, whole numbers or floats.

  Returns:
    Float32 `[B, T]`: `(1 - share) * sound + share * noise`, the noise as loud
    (mean square) as the sound; zeros where the sound has not begun or is over.

  >>> drawn = Distortion(
  ...   jnp.array([1]), jnp.ones(1), jnp.ones((1, 4)), jnp.zeros(1)
  ... )
  >>> distort(drawn, jnp.array([[1, 2, 3, 4]])).tolist()
  [[0.0, 1.0, 2.0, 3.0]]
  """
  waveforms = waveforms.astype(jnp.float32)
  length = waveforms.shape[1]
  time = jnp.arange(length) - drawn.shift[:, None]
  place = time * drawn.speed[:, None]
  before = jnp.floor(place).astype(jnp.int32)
  after = place - before

  def at(index: jax.Array) -> jax.Array:
    inside = (index >= 0) & (index < length)
    value = jnp.take_along_axis(waveforms, jnp.clip(index, 0, length - 1), 1)
    return jnp.where(inside, value, 0.0)

  sound = (1 - after) * at(before) + after * at(before + 1)
  share = drawn.share[:, None]
  return (1 - share) * sound + share * _rms(sound) * drawn.noise


def _rms(waveforms: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.mean(waveforms**2, axis=-1, keepdims=True))


def log_mel(waveforms: jax.Array) -> jax.Array:
  """Maps sounds of one second to pictures: float32 `[B, 32, 32, 1]`.

  The loudest point of each picture is 0.5, whatever is 80 dB below or more
  -0.5; silence is 0.5 everywhere, as in librosa's `power_to_db(ref=max)`. Rows
  are bands, low ones first, columns are frames.

  Args:
    waveforms: `[B, T]`, T samples a second, a multiple of 500.

  Raises:
    ValueError: T is no such multiple.

  >>> log_mel(jnp.ones((1, 8000))).shape
  (1, 32, 32, 1)
  """
  rate = waveforms.shape[1]
  if rate % 500:
    raise ValueError(f'{rate} samples a second must be a multiple of 500')
  window, hop = rate * 16 // 125, rate * 4 // 125
  # As librosa reads samples: only the floor of the logarithm depends on it.
  waves = waveforms.astype(jnp.float32) / 2**15
  waves = jnp.pad(waves, ((0, 0), (window // 2, window // 2)), mode='reflect')
  index = hop * np.arange(FRAMES)[:, None] + np.arange(window)
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
  spectrum = jnp.fft.rfft(waves[:, index] * jnp.asarray(hann, jnp.float32))
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  mel = jnp.einsum(
    'btf,mf->bmt', power, mel_bands(rate), precision=jax.lax.Precision.HIGHEST
  )
  level = 10 * jnp.log10(jnp.maximum(mel, _FLOOR))
  level = level - jnp.max(level, axis=(1, 2), keepdims=True)
  return (jnp.maximum(level, -_RANGE)[..., None] + _RANGE / 2) / _RANGE


@functools.lru_cache(maxsize=4)
def mel_bands(rate: int) -> np.ndarray:
  """Triangular filters of Slaney's auditory toolbox: float32 `[32, F]`.

  Evenly spaced on his mel scale (linear to 1 kHz, then logarithmic) from 0 to
  half the rate, each of an area of 1 in Hz.

  Args:
    rate: samples a second.
  """
  window = rate * 16 // 125
  frequencies = np.linspace(0, rate / 2, window // 2 + 1)
  edges = _hertz(np.linspace(0, _mel(rate / 2), BANDS + 2))
  low, middle, high = (edges[i : i + BANDS, None] for i in range(3))
  rising = (frequencies - low) / (middle - low)
  falling = (high - frequencies) / (high - middle)
  filters = np.maximum(0, np.minimum(rising, falling))
  return (filters * 2 / (high - low)).astype(np.float32)


def _mel(hertz: float) -> float:
  linear = 3 * hertz / 200
  return (
    linear if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)
  )


def _hertz(mel: np.ndarray) -> np.ndarray:
  return np.where(
    mel < 15, 200 * mel / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15))
  )
