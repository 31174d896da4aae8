import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.stats

from jaxmix.classification import models
from jaxmix.classification.models import layers
from tests.jaxmix.drawn import quick

WRN = {'name': 'wide_resnet', 'depth': 10, 'width': 1}
PREACT = {'name': 'preact_resnet18', 'width': 2}
RESNET = {'name': 'resnet50', 'width': 2}


def make(fields, num_classes=10, **more):
  usual: dict[str, Any] = {'dtype': 'float32'}
  if fields['name'] != 'resnet50':
    usual['stem_stride'] = 1
  config = ml_collections.ConfigDict(usual | fields | more)
  return models.create(config, num_classes)


def shapes(model, size=32):
  """Shapes and dtypes of the logits and the variables: nothing is computed."""
  image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
  return jax.eval_shape(
    lambda key, image: model.init_with_output(key, image, train=False),
    jax.random.key(0),
    image,
  )


@pytest.mark.parametrize(
  'fields, num_classes, expected',
  [
    (PREACT | {'width': 64}, 10, 11_172_170),
    (PREACT | {'width': 64}, 100, 11_218_340),
    (WRN | {'depth': 28, 'width': 10}, 10, 36_479_194),
    (WRN | {'depth': 28, 'width': 10}, 100, 36_536_884),
    (RESNET | {'width': 64}, 1000, 25_557_032),
  ],
)
def test_parameters_are_as_many_as_in_the_literature(
  fields, num_classes, expected
):
  logits, variables = shapes(make(fields, num_classes))
  assert sum(x.size for x in jax.tree.leaves(variables['params'])) == expected
  assert logits.shape == (2, num_classes)


@pytest.mark.slow
@pytest.mark.parametrize('fields', [WRN, PREACT, RESNET])
def test_only_the_computation_is_bfloat16(fields):
  model = make(fields, dtype='bfloat16')
  logits, variables = shapes(model)
  assert logits.dtype == jnp.float32, 'the loss would be rounded to bfloat16'
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  assert variables.keys() == {'params', 'batch_stats'}
  program = str(
    jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(
      variables, jnp.zeros((1, 8, 8, 3))
    )
  )
  convolutions = [
    line for line in program.splitlines() if '= conv_general_dilated[' in line
  ]
  assert len(convolutions) > 5
  for line in convolutions:
    assert 'bf16[' in line.partition('=')[0], f'not in bfloat16: {line}'


def outputs(model, kind, size=32):
  """Arguments and results of the layers of a kind."""
  found = []

  def note(next_call, args, kwargs, context):
    out = next_call(*args, **kwargs)
    if type(context.module).__name__ == kind:
      found.append((args[0], out))
    return out

  with nn.intercept_methods(note):
    shapes(model, size)
  return found


@pytest.mark.parametrize('fields', [WRN, PREACT, RESNET])
def test_the_mean_over_the_pixels_is_not_rounded(fields):
  ((features, _),) = outputs(make(fields, dtype='bfloat16'), 'Dense')
  assert features.dtype == jnp.float32


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(
  'fields, expected',
  [
    (WRN | {'depth': 16, 'width': 2}, [(32, 32), (16, 64), (8, 128)]),
    (PREACT, [(32, 2), (16, 4), (8, 8), (4, 16)]),
  ],
)
def test_each_stage_halves_the_image(fields, expected, stride):
  blocks = outputs(make(fields, stem_stride=stride), 'PreActBlock')
  # Two blocks in each stage of both.
  assert [out.shape for _, out in blocks] == [
    (2, side // stride, side // stride, channels)
    for side, channels in expected
    for _ in range(2)
  ], 'a stem with stride 2 quarters the pixels, each later stage again'


def test_the_stages_of_resnet50():
  blocks = outputs(make(RESNET), 'Bottleneck', size=64)
  sides = [16] * 3 + [8] * 4 + [4] * 6 + [2] * 3
  channels = [8] * 3 + [16] * 4 + [32] * 6 + [64] * 3
  assert [out.shape for _, out in blocks] == [
    (2, side, side, n) for side, n in zip(sides, channels, strict=True)
  ]


def test_the_stride_of_a_bottleneck_is_in_its_3x3():
  model = make(RESNET)
  image = jnp.zeros((1, 64, 64, 3))
  program = jax.make_jaxpr(
    lambda key, x: model.init_with_output(key, x, train=False)[0]
  )(jax.random.key(0), image)
  strided = [
    (equation.invars[1].aval.shape[:2], equation.invars[0].aval.shape[1])
    for equation in program.eqns
    if equation.primitive.name == 'conv_general_dilated'
    and equation.params['window_strides'] == (2, 2)
  ]
  # Three shortcuts are the only 1x1 convolutions that skip pixels.
  assert sorted(strided) == [((1, 1), s) for s in (4, 8, 16)] + [
    ((3, 3), s) for s in (4, 8, 16)
  ] + [((7, 7), 64)]


@pytest.mark.parametrize('depth', [1, 4, 18, 27])
def test_a_depth_that_no_wide_resnet_has(depth):
  with pytest.raises(ValueError, match=rf'^config\.model\.depth={depth} '):
    make(WRN | {'depth': depth})


@pytest.fixture(scope='module')
def small():
  """A small network, some variables for it, and images."""
  model = make(WRN)
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1)) * 2 + 1
  rng = np.random.default_rng(0)
  # Not init, which takes XLA seconds to compile.
  variables = jax.tree.map(
    lambda x: rng.uniform(0.1, 0.5, x.shape).astype(np.float32),
    jax.eval_shape(
      functools.partial(model.init, train=False), jax.random.key(0), images
    ),
  )
  return model, variables, images


@pytest.mark.parametrize('size, features', [(3, 64), (1, 256)])
def test_convolutions_begin_as_he_et_al_say(size, features):
  conv = layers.conv(features, size, 1, jnp.float32)
  images = jnp.zeros((1, 8, 8, 96))
  variables: Any = conv.init(jax.random.key(0), images)
  kernel = variables['params']['kernel']
  assert kernel.shape == (size, size, 96, features)
  expected = np.sqrt(2 / (size * size * features))
  assert np.std(kernel) == pytest.approx(expected, rel=0.02)
  assert abs(np.mean(kernel)) < 0.02 * expected
  assert scipy.stats.kstest(np.ravel(kernel) / expected, 'norm').pvalue > 0.01


def convolve(images, kernel):
  """A 3x3 convolution, by its definition."""
  padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
  return np.einsum('bxyirc,rcio->bxyo', windows, kernel)


@functools.partial(quick, static_argnums=(0, 3))
def run(model, variables, images, train):
  """The logits and the statistics after them."""
  logits, state = model.apply(
    variables, images, train=train, mutable=['batch_stats']
  )
  return logits, state['batch_stats']


def test_running_statistics_move_a_tenth_of_the_way(small):
  model, variables, images = small
  _, stats = run(model, variables, images, True)
  kernel = variables['params']['Conv_0']['kernel']
  stem = convolve(np.asarray(images), np.asarray(kernel))
  before = variables['batch_stats']['PreActBlock_0']['BatchNorm_0']
  after = stats['PreActBlock_0']['BatchNorm_0']
  batch = {'mean': stem.mean((0, 1, 2)), 'var': stem.var((0, 1, 2))}
  for name, value in batch.items():
    np.testing.assert_allclose(
      after[name],
      0.9 * before[name] + 0.1 * value,
      rtol=1e-4,
      atol=1e-5,
      err_msg=f'{name}: momentum 0.1 in the words of torch',
    )


def with_other_statistics(variables):
  other = jax.tree.map(lambda x: 2 * x, variables['batch_stats'])
  return variables | {'batch_stats': other}


def test_training_normalises_by_the_batch(small):
  model, variables, images = small
  logits, _ = run(model, variables, images, True)
  same, _ = run(model, with_other_statistics(variables), images, True)
  np.testing.assert_array_equal(logits, same)
  moved = images.at[1:].multiply(3)
  other, _ = run(model, variables, moved, True)
  assert np.abs(other[0] - logits[0]).max() > 1e-3, 'the batch does not matter'


def test_evaluation_uses_the_running_statistics_and_keeps_them(small):
  model, variables, images = small
  logits, stats = run(model, variables, images, False)
  jax.tree.map(np.testing.assert_array_equal, stats, variables['batch_stats'])
  moved, _ = run(model, variables, images.at[1:].multiply(3), False)
  np.testing.assert_allclose(
    moved[0], logits[0], rtol=1e-5, err_msg='the rest of the batch matters'
  )
  other, _ = run(model, with_other_statistics(variables), images, False)
  assert np.abs(other - logits).max() > 1e-3, 'the statistics are not used'


# --- Activations ---


@functools.partial(quick, static_argnums=0)
def cut(model, variables, images, number, states):
  """Logits where state `number` was replaced; and all the states."""
  found = []

  def hook(k, x):
    assert k == len(found)
    found.append(jnp.where(number == k, states[k], x))
    return found[-1]

  logits = model.apply(variables, images, train=False, activation_hook=hook)
  return logits, found


@pytest.mark.parametrize(
  'fields, stages',
  [
    (WRN, 3),
    pytest.param(PREACT, 4, marks=pytest.mark.slow),
    pytest.param(RESNET, 4, marks=pytest.mark.slow),
  ],
)
def test_each_activation_determines_the_logits(fields, stages):
  model = make(fields)
  shapes = models.activation_shapes(model, (32, 32, 3))
  assert len(shapes) == 2 + stages, 'input, stem and stages'
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(2, 3, 32, 32, 3)), jnp.float32)
  variables = jax.tree.map(
    lambda x: rng.uniform(-0.5, 1, x.shape).astype(np.float32) ** 2,
    jax.eval_shape(
      functools.partial(model.init, train=False), jax.random.key(0), images[0]
    ),
  )
  no_states = [jnp.zeros((3, *shape)) for shape in shapes]
  own, _ = cut(model, variables, images[0], -1, no_states)
  other, states = cut(model, variables, images[1], -1, no_states)
  assert np.abs(own - other).max() > 1e-2 * np.abs(other).max()
  assert tuple(x.shape[1:] for x in states) == shapes
  np.testing.assert_array_equal(states[0], images[1])
  for k in range(len(shapes)):
    logits, _ = cut(model, variables, images[0], k, states)
    np.testing.assert_array_equal(logits, other, err_msg=f'state {k}')


def test_activations_are_the_outputs_of_the_stem_and_the_stages(small):
  model, variables, images = small

  @quick
  def run(variables, images):
    states, blocks = [], []

    def hook(k, x):
      states.append(x)
      return x

    def intercept(next_call, args, kwargs, context):
      out = next_call(*args, **kwargs)
      if type(context.module).__name__ == 'PreActBlock':
        blocks.append(out)
      return out

    with nn.intercept_methods(intercept):
      model.apply(variables, images, train=False, activation_hook=hook)
    return states, blocks

  states, blocks = run(variables, images)
  stem = convolve(
    np.asarray(images), np.asarray(variables['params']['Conv_0']['kernel'])
  )
  np.testing.assert_allclose(states[1], stem, rtol=1e-4, atol=1e-5)
  for state, block in zip(states[2:], blocks, strict=True):
    np.testing.assert_array_equal(state, block)


@pytest.mark.slow
@pytest.mark.parametrize('fields', [WRN, PREACT, RESNET])
def test_a_hook_that_changes_nothing_changes_no_program(fields):
  model = make(fields)
  _, variables = shapes(model)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)

  def lower(**hook):
    def train(variables, images):
      return model.apply(
        variables, images, train=True, mutable=['batch_stats'], **hook
      )

    return jax.jit(train).lower(variables, images).as_text()

  plain = lower()
  assert lower(activation_hook=lambda k, x: x) == plain
  assert lower(activation_hook=lambda k, x: 2 * x if k == 2 else x) != plain
