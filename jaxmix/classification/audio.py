"""Audio on the device: distortions of waveforms, and log-mel spectrograms.

The 32x32 spectrograms are those of FMix's experiment on Google Speech Commands:
one second in frames of 128 ms every 32 ms, 32 mel bands, in decibels below the
maximum (80 at most), mapped from [-80, 0] to [-0.5, 0.5].
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
  """The distortions drawn for a batch of waveforms of T samples.

  Attributes:
    shift: int32 `[B]`, delay in samples.
    speed: float32 `[B]`, above 1 is faster and higher.
    noise: float32 `[B, T]` with a mean square of 1.
    fraction: float32 `[B]` in [0, 1], of the noise in the result.
  """

  shift: jax.Array
  speed: jax.Array
  noise: jax.Array
  fraction: jax.Array


def draw_distortion(
  keys: jax.Array,
  samples: int,
  *,
  shift: int,
  speed: float,
  noise: float,
) -> Distortion:
  """Draws shifts, speeds and noise, each for half of the waveforms.

  The noise has a spectrum of 1 / f^b, b uniform in [0, 2]: from white to brown.

  Args:
    keys: random keys `[B]`, one for each waveform, so that its distortion does
      not depend on the rest of the batch or on the number of devices.
    samples: the length T of a waveform.
    shift: the largest shift to either side, in samples.
    speed: the largest relative change of the speed, in [0, 1).
    noise: the largest fraction of noise, in [0, 1].

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
    fraction = jax.random.uniform(keys[2], (), maxval=noise)
    power = jax.random.uniform(keys[3], (), maxval=2.0)
    spectrum = jnp.fft.rfft(jax.random.normal(keys[4], (samples,)))
    frequency = jnp.maximum(jnp.arange(len(spectrum)), 1.0)
    coloured = jnp.fft.irfft(spectrum * frequency ** (-power / 2), samples)
    return Distortion(
      half(keys[5], late, 0),
      half(keys[6], 1 + faster, 1.0),
      coloured / _rms(coloured),
      half(keys[7], fraction, 0.0),
    )

  return jax.vmap(draw)(keys)


def distort(drawn: Distortion, waveforms: jax.Array) -> jax.Array:
  """Applies distortions: linear resampling, a shift, and noise.

  Args:
    drawn: the distortions of this batch.
    waveforms: `[B, T]`, integers or floats.

  Returns:
    Float32 `[B, T]`: `(1 - fraction) * resampled + fraction * noise`, where the
    noise has the mean square of the resampled waveform. Zeros before its
    beginning and after its end.

  >>> drawn = Distortion(
  ...   jnp.array([1]), jnp.ones(1), jnp.ones((1, 4)), jnp.zeros(1)
  ... )
  >>> distort(drawn, jnp.array([[1, 2, 3, 4]])).tolist()
  [[0.0, 1.0, 2.0, 3.0]]
  """
  waveforms = waveforms.astype(jnp.float32)
  length = waveforms.shape[1]
  time = jnp.arange(length) - drawn.shift[:, None]
  position = time * drawn.speed[:, None]
  before = jnp.floor(position).astype(jnp.int32)
  after = position - before

  def at(index: jax.Array) -> jax.Array:
    inside = (index >= 0) & (index < length)
    value = jnp.take_along_axis(waveforms, jnp.clip(index, 0, length - 1), 1)
    return jnp.where(inside, value, 0.0)

  resampled = (1 - after) * at(before) + after * at(before + 1)
  fraction = drawn.fraction[:, None]
  noise = drawn.noise
  return (1 - fraction) * resampled + fraction * _rms(resampled) * noise


def _rms(waveforms: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.mean(waveforms**2, axis=-1, keepdims=True))


def log_mel(waveforms: jax.Array) -> jax.Array:
  """Returns log-mel spectrograms float32 `[B, 32, 32, 1]` of one second each.

  The maximum of each spectrogram is 0.5; values of 80 dB or more below it are
  -0.5. Silence is 0.5 everywhere, as in librosa's `power_to_db(ref=max)`. Rows
  are bands from low to high, columns are frames.

  Args:
    waveforms: `[B, T]` at T samples a second, a multiple of 500.

  Raises:
    ValueError: T is not a multiple of 500.

  >>> log_mel(jnp.ones((1, 8000))).shape
  (1, 32, 32, 1)
  """
  rate = waveforms.shape[1]
  if rate % 500:
    raise ValueError(
      f'waveforms have {rate} samples; one second must be a multiple of 500'
    )
  window, hop = rate * 16 // 125, rate * 4 // 125
  # librosa reads samples as fractions: it matters for the floor only.
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
  """Returns the mel filters of Slaney's auditory toolbox: float32 `[32, F]`.

  The triangles are evenly spaced on his mel scale (linear to 1 kHz, then
  logarithmic) from 0 to half the rate, and each has an area of 1 in Hz.

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
