"""Spectrograms are those of librosa, and distortions are as drawn.

Beside librosa 0.11 itself (melspectrogram with pad_mode='reflect', then
power_to_db(ref=max)) the spectrograms of 31 spoken digits and of noise differed
by 1.4e-6 at most; it is too heavy a dependency for a test.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix.classification import audio
from tests.jaxmix.drawn import quick

log_mel = jax.jit(audio.log_mel)
distort = jax.jit(audio.distort)


def mel(hertz):
  """Slaney's scale: 200/3 Hz a mel up to 1 kHz, then 27 to a factor of 6.4."""
  if hertz < 1000:
    return hertz * 3 / 200
  return 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def spectrogram(wave, rate):
  """Returns one spectrogram in float64, frame by frame and band by band."""
  window, hop = int(0.128 * rate), int(0.032 * rate)
  padded = np.pad(wave / 32768.0, window // 2, mode='reflect')
  hann = np.sin(np.pi * np.arange(window) / window) ** 2
  points = np.linspace(0, mel(rate / 2), 34)
  frequency = np.arange(window // 2 + 1) * rate / window
  grid = np.linspace(0, rate / 2, 2_000_001)
  edges = np.interp(points, [mel(f) for f in grid[::50]], grid[::50])
  result = np.empty((32, 32))
  for frame in range(32):
    part = padded[frame * hop : frame * hop + window] * hann
    power = np.abs(np.fft.rfft(part)) ** 2
    for band in range(32):
      low, middle, high = edges[band : band + 3]
      height = 2 / (high - low)
      weight = np.interp(frequency, [low, middle, high], [0, height, 0])
      result[band, frame] = 10 * np.log10(max(power @ weight, 1e-10))
  result -= result.max()
  return (np.maximum(result, -80) + 40) / 80


def waves(rate, count=3) -> Any:
  rng = np.random.default_rng(0)
  loud = rng.normal(size=(count, rate)) * np.linspace(0, 8000, rate)
  return np.clip(loud, -32768, 32767).astype(np.int16)


@pytest.mark.parametrize('rate', [8000, 16_000])
def test_spectrograms_are_those_of_the_definition(rate):
  waveforms = waves(rate)
  waveforms[1] = 3000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
  spectrograms = log_mel(waveforms)
  assert (
    spectrograms.shape == (3, 32, 32, 1) and spectrograms.dtype == jnp.float32
  )
  for waveform, found in zip(waveforms, np.asarray(spectrograms), strict=True):
    # 1e-4 is 0.008 dB; float32 sums of 2,048 products differ by less.
    np.testing.assert_allclose(
      found[..., 0], spectrogram(waveform, rate), atol=1e-4
    )


def test_loudness_does_not_count():
  waveforms = waves(8000)
  half = log_mel(waveforms / 2)
  np.testing.assert_allclose(log_mel(waveforms), half, atol=1e-5)


def test_silence_is_even():
  silence = log_mel(jnp.zeros((1, 8000), jnp.int16))
  np.testing.assert_allclose(silence, 0.5, atol=1e-6)


@pytest.mark.slow
def test_rows_are_bands_and_columns_are_frames():
  time = np.arange(8000) / 8000
  tones = [np.sin(2 * np.pi * f * time) for f in (200.0, 3000.0)]
  low, high = np.asarray(log_mel(jnp.array(tones) * 1000))[..., 0]
  assert low.mean(axis=1).argmax() < 5 and high.mean(axis=1).argmax() > 25
  click = np.zeros((1, 8000))
  click[0, 20 * 256] = 1e6  # far above the floor of the logarithm
  frames = np.asarray(log_mel(jnp.asarray(click)))[0, ..., 0].mean(axis=0)
  assert frames.argmax() == 20
  assert frames[0] == frames[-1] == -0.5


def test_a_rate_that_has_no_such_frames_is_refused():
  with pytest.raises(ValueError, match='8001 samples'):
    audio.log_mel(jnp.zeros((1, 8001)))


def plain(batch, samples, **changes):
  drawn = {
    'shift': np.zeros(batch, np.int32),
    'speed': np.ones(batch, np.float32),
    'noise': np.ones((batch, samples), np.float32),
    'fraction': np.zeros(batch, np.float32),
  }
  return audio.Distortion(**jax.tree.map(jnp.asarray, drawn | changes))


def test_nothing_drawn_changes_nothing():
  waveforms = waves(8000)
  same = distort(plain(3, 8000), waveforms)
  assert np.array_equal(same, waveforms.astype(np.float32))


def test_shifts_are_exact_and_filled_with_zeros():
  waveforms = waves(8000)
  drawn = plain(3, 8000, shift=np.array([700, -700, 0], np.int32))
  late, early, same = np.asarray(distort(drawn, waveforms))
  assert (
    np.array_equal(late[700:], waveforms[0, :-700]) and not late[:700].any()
  )
  assert np.array_equal(early[:-700], waveforms[1, 700:])
  assert not early[-700:].any() and np.array_equal(same, waveforms[2])


@pytest.mark.parametrize('speed', [0.8, 1.25])
def test_a_faster_sound_is_higher_and_shorter(speed):
  time = np.arange(8000) / 8000
  tone = np.where(time < 0.5, np.sin(2 * np.pi * 400 * time), 0)[None]
  drawn = plain(1, 8000, speed=np.array([speed], np.float32))
  found = np.asarray(distort(drawn, jnp.asarray(tone)))[0]
  end = int(8000 * 0.5 / speed)
  wanted = np.sin(2 * np.pi * 400 * speed * time[: end - 1])
  np.testing.assert_allclose(found[: end - 1], wanted, atol=0.02)
  assert not found[end + 2 :].any()


def test_noise_has_its_share_and_the_loudness_of_the_sound():
  waveforms = waves(8000)
  noise = np.random.default_rng(1).choice([-1.0, 1.0], (3, 8000))
  share = np.array([0.0, 0.25, 1.0])
  drawn = plain(3, 8000, noise=noise, fraction=share)
  found = np.asarray(distort(drawn, waveforms), np.float64)
  loud = np.sqrt(np.mean(waveforms.astype(float) ** 2, axis=1, keepdims=True))
  wanted = (1 - share[:, None]) * waveforms + share[:, None] * loud * noise
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=0.5)


@functools.cache
def many():
  draw = functools.partial(
    audio.draw_distortion, samples=500, shift=20, speed=0.2, noise=0.4
  )
  keys = jax.random.split(jax.random.key(0), 400)
  return jax.tree.map(np.asarray, jax.jit(draw)(keys))


@pytest.mark.slow
def test_each_change_is_drawn_for_half():
  drawn = many()
  # Four standard deviations of a fair coin over 400 draws are 40.
  assert 160 <= np.sum(drawn.speed != 1) <= 240
  assert 160 <= np.sum(drawn.fraction != 0) <= 240
  assert 150 <= np.sum(drawn.shift != 0) <= 235  # one in 41 is 0 anyway
  both = np.sum((drawn.speed != 1) & (drawn.fraction != 0))
  assert 65 <= both <= 135, 'they are not independent'


def test_what_is_drawn_stays_within_bounds_and_fills_them():
  drawn = many()
  assert drawn.shift.min() == -20 and drawn.shift.max() == 20
  assert 0.8 <= drawn.speed.min() < 0.82 and 1.18 < drawn.speed.max() <= 1.2
  assert 0.38 < drawn.fraction.max() <= 0.4 and drawn.fraction.min() == 0


def test_noise_is_of_one_loudness_and_many_colours():
  noise = many().noise
  np.testing.assert_allclose(np.mean(noise**2, axis=1), 1, rtol=1e-5)
  power = np.abs(np.fft.rfft(noise)) ** 2
  ratio = np.log10(power[:, 1:5].mean(axis=1) / power[:, 100:].mean(axis=1))
  # b of 0 to 2 over frequencies 2.5 and about 170: 0 to 3.6 powers of ten.
  assert ratio.min() < 0.4 and ratio.max() > 3 and 1.2 < ratio.mean() < 2.4


@pytest.mark.slow
def test_what_is_drawn_for_a_sound_is_its_own_keys():
  keys = jax.random.split(jax.random.key(0), 4)
  options = {'shift': 5, 'speed': 0.1, 'noise': 0.1}
  draw = quick(functools.partial(audio.draw_distortion, samples=100, **options))
  whole, part = draw(keys), draw(keys[2:])
  np.testing.assert_allclose(whole.noise[2:], part.noise, rtol=1e-5)
  assert np.array_equal(whole.shift[2:], part.shift)
  assert not np.allclose(whole.noise[0], whole.noise[1])
