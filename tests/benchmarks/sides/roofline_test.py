import math

import jax
import jax.numpy as jnp
import pytest

from benchmarks.sides import roofline, step_ours
from benchmarks.sides.workload import PREACT, RESNET, WIDE, Workload

H100 = {'flop_per_s': 798e12, 'bytes_per_s': 3e12}


def make(model, classes=10, side=32, batch_size=2):
  return Workload(model, classes, side, batch_size, 8, 0, 1, 1)


# By hand: 3 forwards without the stem's input gradient, and the serial
# roofline of a step of 256 at half of 989 TFLOP/s and 3.0 TB/s, its optimizer's
# 20 bytes a parameter included.
@pytest.mark.slow
@pytest.mark.parametrize(
  'model, classes, side, gflop, ms',
  [
    (PREACT, 10, 32, 3.329, 3.1 + 0.074),
    (WIDE, 100, 32, 31.46, 22.1 + 0.244),
    (RESNET, 1000, 224, 24.30, 38.9 + 0.170),
  ],
)
def test_the_work_of_the_nets(model, classes, side, gflop, ms):
  work = roofline.count(make(model, classes, side, 256), 'bfloat16')
  assert work['flop'] / 256e9 == pytest.approx(gflop, rel=0.002)
  least = roofline.seconds(work, H100)
  assert 1e3 * least['serial'] == pytest.approx(ms, rel=0.02)
  assert least['floor'] == work['flop'] / 798e12


def test_bytes_follow_the_dtype():
  model = WIDE | {'depth': 10, 'width': 1}  # three blocks
  half = roofline.count(make(model), 'bfloat16')
  whole = roofline.count(make(model), 'float32')
  assert half['flop'] == whole['flop']
  shapes = step_ours.weight_shapes(make(model)).values()
  parameters = roofline.SGD_BYTES * sum(math.prod(shape) for shape in shapes)
  assert whole['bytes'] - parameters == 2 * (half['bytes'] - parameters)


X, W = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))


def conv(x, w, stride=1, groups=1):
  return jax.lax.conv_general_dilated(
    x,
    w,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


@pytest.mark.parametrize('stride', [1, 2])
def test_each_gradient_of_a_convolution_costs_a_forward(stride):
  def loss(x, w):
    return jnp.sum(conv(x, w, stride) ** 2)

  forward = 2 * 2 * (8 // stride) ** 2 * 5 * 27
  assert roofline.flop(loss, X, W) == forward
  assert roofline.flop(jax.grad(loss, 1), X, W) == 2 * forward
  assert roofline.flop(jax.grad(loss, (0, 1)), X, W) == 3 * forward


def test_groups_divide_the_work():
  w = jnp.ones((3, 3, 1, 6))
  assert roofline.flop(lambda x: conv(x, w, groups=3), X) == 2 * 2 * 64 * 6 * 9


def test_nested_functions_are_counted():
  x = jnp.ones((2, 3, 3))
  once = 2 * 2 * 3**3

  def product(x):
    return jnp.einsum('bij,bjk->bik', x, x)

  def scanned(x):
    return jax.lax.scan(lambda x, _: (product(x), None), x, None, length=5)[0]

  def branched(x):
    twice = jax.checkpoint(lambda x: product(product(x)))
    return jax.lax.cond(x[0, 0, 0] > 0, twice, product, x)

  assert roofline.flop(jax.jit(product), x) == once
  assert roofline.flop(scanned, x) == 5 * once
  assert roofline.flop(branched, x) == 2 * once
  with pytest.raises(ValueError, match='loop'):
    roofline.flop(
      lambda x: jax.lax.while_loop(lambda x: x[0, 0, 0] > 0, product, x), x
    )
