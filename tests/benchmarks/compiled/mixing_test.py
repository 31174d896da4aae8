"""What the compilers of TPUs and GPUs make of each mode.

`make test-tpu` has the compiler of TPUs. That of GPUs is 5 GB: install
`jax[cuda12]` to run its tests.
"""

import functools

import pytest

from benchmarks.compiled import chips, cost, mixing
from benchmarks.compiled.mixing import SHAPES

SMALL, LARGE = SHAPES.values()

# Bytes over two reads and a write, with some room for another compiler.
RATIOS = {
  'mixup': 6,
  'cutmix': 6,
  'fmix': 6,
  'resizemix': 15,
  'random_mix': 15,
  'random_mix, per sample': 30,
  'random_mix, f32': 15,
}


@functools.cache
def compiled(chip, name, shape):
  if reason := chips.missing(chip):
    pytest.skip(f'needs {reason}')
  return mixing.compiled(chip, name, shape)


@pytest.mark.tpu
@pytest.mark.parametrize(
  'chip, name, shape',
  [('v5e', name, SMALL) for name in RATIOS]
  + [('v6e', 'random_mix', SMALL), ('v5e', 'random_mix', LARGE)],
)
def test_bytes_over_the_ideal(chip, name, shape):
  program = compiled(chip, name, shape)
  assert program.bytes is not None
  ratio = program.bytes / mixing.ideal(shape, name)
  assert 0.5 < ratio <= RATIOS[name], f'{ratio:.1f} times the ideal'
  # No array in the memory of the chip is larger than the batch, and together
  # they are one batch beside the numbers of the draw.
  assert cost.largest(program.text) <= mixing.ideal(shape, name) / 3
  assert program.temporary <= 1.25 * mixing.ideal(shape, name) / 3


@pytest.mark.tpu
@pytest.mark.parametrize('name', RATIOS)
def test_no_pixel_is_gathered(name):
  program = compiled('v5e', name, SMALL)
  batch, height, width, channels = SMALL
  pixels = batch * height * width * channels
  for part in cost.computations(program.text)[0].values():
    for shape, operation, line in part:
      if operation == 'gather':
        assert max(map(cost.elements, cost.arrays(shape))) < pixels, line


@pytest.mark.tpu
def test_each_sample_its_own_mode_costs_less_than_twice_the_bytes():
  one = compiled('v5e', 'random_mix', SMALL).bytes
  each = compiled('v5e', 'random_mix, per sample', SMALL).bytes
  assert one is not None and each is not None
  assert each <= 2 * one


@pytest.mark.gpu
@pytest.mark.parametrize(
  'shape, most', [(SMALL, 12), (LARGE, 14)], ids=list(SHAPES)
)
def test_kernels_of_a_gpu(shape, most):
  text = compiled('h100', 'random_mix', shape).text
  assert cost.kernels(text) <= most
  elements = mixing.ideal(shape, 'uint8') // 3
  assert cost.image_kernels(text, elements) == 1
  assert all(size <= shape[0] for size in cost.sorts(text))


@pytest.mark.gpu
@pytest.mark.parametrize('name', RATIOS)
def test_every_mode_compiles_for_a_gpu_in_one_pass(name):
  for shape in SHAPES.values():
    text = compiled('h100', name, shape).text
    elements = mixing.ideal(shape, 'uint8') // 3
    # Floating-point pixels that are blended are read by a kernel of their own.
    most = 2 if name.endswith('f32') else 1
    assert 1 <= cost.image_kernels(text, elements) <= most


def test_what_to_install_is_said():
  for chip in chips.CHIPS:
    reason = chips.missing(chip)
    assert reason is None or 'pip install' in reason
    if reason:
      with pytest.raises(ModuleNotFoundError, match=f'{chip} needs'):
        chips.mesh_of(chip)
