"""Draws shared by several test files, each compiled once a session.

The shapes cover an odd batch, odd and even sides, H != W, one to three spatial
axes, and a batch of one.
"""

import functools

import jax

import jaxmix

IMAGES = (7, 9, 12, 2)
SERIES = (5, 21, 3)
VOLUME = (6, 4, 6, 5, 1)
LONE = (1, 8, 7, 1)
SHAPES = {'images': IMAGES, 'series': SERIES, 'volume': VOLUME, 'lone': LONE}

MODES = ('mixup', 'cutmix', 'resizemix', 'fmix')
MASK_MODES = MODES[1:]
GRANULARITIES = ('batch', 'sample')
DRAW = {mode: getattr(jaxmix, f'draw_{mode}') for mode in MODES}
MIX = {mode: getattr(jaxmix, mode) for mode in MODES}

COUNT = 24  # draws of each mode

# Compiles faster: the program is the same, without LLVM's optimiser. For tests
# of values, not of speed.
quick = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def one_draw(tree, index):
  """Returns one of several stacked draws."""
  return jax.tree.map(lambda leaf: leaf[index], tree)


@functools.cache
def modes():
  """`COUNT` draws of every mode and granularity for IMAGES, stacked."""

  def draw(key):
    return {
      (mode, granularity): DRAW[mode](key, IMAGES, granularity=granularity)
      for mode in MODES
      for granularity in GRANULARITIES
    }

  keys = jax.random.split(jax.random.key(20), COUNT)
  return quick(lambda keys: jax.lax.map(draw, keys))(keys)


@functools.cache
def random_masks(name, granularity):
  """`COUNT` draws of RandomMix from the modes that copy pixels, stacked."""
  # A lone image is its own partner in every mode: one of them will do.
  candidates = MASK_MODES if name != 'lone' else ('cutmix', 'identity')

  def draw(key):
    return jaxmix.draw_random_mix(
      key, SHAPES[name], candidates=candidates, granularity=granularity
    )

  keys = jax.random.split(jax.random.key(21), COUNT)
  return quick(lambda keys: jax.lax.map(draw, keys))(keys)
