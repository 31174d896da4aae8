"""What the program of a training step is made of, before any compiler.

The targets of docs/performance.md rest on these counts; they hold for every
device, so they can be checked on a CPU.
"""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import pytest

from configs import cifar100_wrn, table1_cifar
from jaxmix.classification import task
from launch.mesh import make_mesh

BATCH = 16


def program(config):
  """The gradient of the task's loss, as StableHLO text."""
  loss = task.make_loss(config, make_mesh(jax.devices()[:1]))
  init = functools.partial(task.init, config)
  state = jax.eval_shape(init, jax.random.key(0))
  batch = {
    'image': jax.ShapeDtypeStruct((BATCH, 32, 32, 3), jnp.uint8),
    'label': jax.ShapeDtypeStruct((BATCH,), jnp.int32),
  }
  gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
  return gradient.lower(*state, batch, jax.random.key(0)).as_text()


@pytest.fixture(scope='module')
def preact():
  config = table1_cifar.get_config()
  config.model.width = 8
  return program(config)


@pytest.fixture(scope='module')
def wide():
  config = cifar100_wrn.get_config()
  config.model.update({'depth': 10, 'width': 1})
  return program(config)


# The stem, two in each block, and one where a block changes the shape.
CONVOLUTIONS = {'preact': 1 + 2 * 8 + 3, 'wide': 1 + 2 * 3 + 2}


@pytest.mark.slow
@pytest.mark.parametrize('net', CONVOLUTIONS)
def test_convolutions_are_channels_last_and_none_is_done_twice(net, request):
  text = request.getfixturevalue(net)
  found = collections.Counter(
    re.findall(r'stablehlo\.convolution.* dim_numbers = (.*?), window', text)
  )
  forward = CONVOLUTIONS[net]
  assert found == {
    '[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]': forward,
    # Of kernels, and of inputs; the images need none.
    '[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]': forward,
    '[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]': forward - 1,
  }


@pytest.mark.parametrize('net', CONVOLUTIONS)
def test_no_image_is_transposed(net, request):
  text = request.getfixturevalue(net)
  ranks = [
    len(dims.split(','))
    for dims in re.findall(r'stablehlo\.transpose.* dims = \[(.*?)\]', text)
  ]
  assert ranks, 'the head has one: the text is not read rightly'
  assert max(ranks) < 4, 'NHWC is left on the way'


def test_convolutions_are_in_bfloat16_and_sums_are_not(preact):
  results = re.findall(r'stablehlo\.convolution.*-> tensor<.*x(\w+)>', preact)
  assert set(results) == {'bf16'}
  # Statistics, their gradients, the mean over pixels, the loss.
  sums = re.findall(
    r'stablehlo\.reduce\(.*applies stablehlo\.add across.*-> tensor<(.*?)>',
    preact,
  )
  kinds = collections.Counter(kind.split('x')[-1] for kind in sums)
  assert kinds['f32'] > 2 * CONVOLUTIONS['preact'], kinds
  assert 'bf16' not in kinds, f'something is summed in bfloat16: {kinds}'


def branches(text):
  """Returns the numbers of branches of all conditionals that have several.

  A function of the platform is a conditional of one branch, whose index is
  that of a constant, looked up by a conditional that returns nothing else.
  """
  found = []
  for start in re.finditer(r'^( *)[^\n]*stablehlo\.(?:case|if)\b', text, re.M):
    body, rest = text[start.end() :].split(f'\n{start[1]}}})', 1)
    if not rest.startswith(' : (tensor<i32>) -> tensor<i32>\n'):
      found.append(1 + body.count(f'\n{start[1]}}}, {{'))
  return [n for n in found if n > 1]


def test_one_branch_and_nothing_asks_the_host(preact):
  assert branches(preact) == [4]  # of RandomMix
  host = r'callback|stablehlo\.(?:infeed|outfeed|send|recv)\b'
  assert not re.findall(host, preact)


def test_images_are_float_only_once_they_are_mixed(preact):
  # [16, 32, 32, 3] in float32 is what the one pass computes with; the gathers
  # of crop and mix move bytes.
  gathers = re.findall(
    r'stablehlo\.gather.*-> tensor<16x32x32x3x(\w+)>', preact
  )
  assert gathers and set(gathers) == {'ui8'}, gathers


def test_mixing_a_state_adds_branches_and_no_convolution(preact):
  config = table1_cifar.get_config('method=manifold_mixup')
  config.model.width = 8
  text = program(config)

  def count(pattern, text):
    return len(re.findall(pattern, text))

  convolution = r'stablehlo\.convolution'
  assert count(convolution, text) == count(convolution, preact)
  # Three states; on the way back the input has no gradient. (The branch of
  # RandomMix's modes is gone.)
  assert branches(text) == [2] * (3 + 2)
