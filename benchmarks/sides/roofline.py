"""Roofline of a training step: FLOP, bytes, and the least time they take.

The work is counted, not measured. FLOP are those of convolutions and matrix
products in the program of the gradient (2 per multiply-add, 0 for the zeros
that dilate the input gradient of a strided convolution). Bytes follow a model
without fusion across convolutions:

- each convolution passes three times over its input and its output: forward,
  for the gradient of its input, and for the gradient of its kernel;
- each BatchNorm with its ReLU passes eight times over its input: statistics,
  read and write; backward, two reads for sums, and two reads and a write for
  the gradient;
- SGD with momentum reads gradient, parameter and momentum and writes the last
  two: 20 bytes per parameter.

The *floor* is the FLOP at the rate of the measured matrix product, a lower
bound. The *serial roofline* takes convolutions at `REACHED` of that rate and
then the bytes at the rate of the measured copy: the time of a well-tuned
program without overlap. Fusion can be faster, so it is not a bound.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks.sides import step_ours
from benchmarks.sides.workload import Workload

# 494.5 / 798: convolutions at half of an H100's 989 TFLOP/s, of which a product
# of 8192 cubed in bfloat16 reaches 798. The resulting roofline is within 7 % of
# the best published ResNet-50 step on that device (MLPerf 3.0).
REACHED = 0.62
CONV_PASSES, NORM_PASSES, SGD_BYTES = 3, 8, 20


def flop(function: Callable[..., Any], *arguments: Any) -> int:
  """Returns the FLOP of the convolutions and matrix products of a function.

  Args:
    function: traced, not run; may call jitted functions, scans and branches
      (the most expensive branch counts).
    *arguments: arrays or their shapes.

  Raises:
    ValueError: a product is in a loop of unknown length.
  """
  return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    inner = [_count(nested) for nested in _nested(params)]
    if name == 'conv_general_dilated':
      total += _convolution(equation)
    elif name == 'dot_general':
      total += _product(equation)
    elif name == 'while' and any(inner):
      raise ValueError('products in a loop of unknown length cannot be counted')
    elif name == 'cond':
      total += max(inner)
    elif name == 'scan':
      total += params['length'] * sum(inner)
    elif name == 'shard_map':
      total += params['mesh'].size * sum(inner)
    else:
      total += sum(inner)
  return total


def _nested(params: Mapping[str, Any]) -> list[Any]:
  found = []
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else [value]:
      item = getattr(item, 'jaxpr', item)
      if hasattr(item, 'eqns'):
        found.append(item)
  return found


def _convolution(equation: Any) -> int:
  kernel = equation.invars[1].aval.shape
  # The first entry of rhs_spec is the output axis of the kernel.
  outputs = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
  taps = int(np.prod(kernel)) // outputs
  zeros = int(np.prod(equation.params['lhs_dilation']))
  return 2 * int(np.prod(equation.outvars[0].aval.shape)) * taps // zeros


def _product(equation: Any) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  shape = equation.invars[0].aval.shape
  depth = int(np.prod([shape[axis] for axis in contracted]))
  return 2 * int(np.prod(equation.outvars[0].aval.shape)) * depth


def count(work: Workload, dtype: str) -> dict[str, float]:
  """Returns `flop` and `bytes` of one training step, without running it."""
  model, shapes = step_ours.create(work, dtype)
  image = (work.batch_size, work.side, work.side, 3)
  images = jax.ShapeDtypeStruct(image, jnp.float32)
  labels = jax.ShapeDtypeStruct((work.batch_size, work.classes), jnp.float32)

  def loss(params, stats, images, labels):
    variables = {'params': params, 'batch_stats': stats}
    return step_ours.soft_loss(model, variables, images, labels)

  params, stats = shapes['params'], shapes['batch_stats']
  elements = _elements(model, shapes, images)
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  return {
    'flop': flop(jax.grad(loss), params, stats, images, labels),
    'bytes': jnp.dtype(dtype).itemsize * elements + SGD_BYTES * size,
  }


def _elements(model: nn.Module, shapes: Any, images: Any) -> int:
  """Returns the elements that the layers read and write, by the model above."""
  conv, norm, channels = 0, 0, 0

  def note(next_call, args, kwargs, context):
    nonlocal conv, norm, channels
    out = next_call(*args, **kwargs)
    if isinstance(context.module, nn.Conv):
      conv += args[0].size + out.size
    elif context.module.has_variable('batch_stats', 'mean'):
      norm += args[0].size
      channels += args[0].shape[-1]
    return out

  with nn.intercept_methods(note):
    jax.eval_shape(
      lambda variables, images: model.apply(
        variables, images, train=True, mutable='batch_stats'
      ),
      shapes,
      images,
    )
  stats = jax.tree.leaves(shapes['batch_stats'])
  if 2 * channels != sum(leaf.size for leaf in stats):
    raise ValueError(
      'the network has BatchNorm statistics outside of the layers counted'
    )
  return CONV_PASSES * conv + NORM_PASSES * norm


def seconds(
  work: Mapping[str, float], limits: Mapping[str, float]
) -> dict[str, float]:
  """Returns `floor` and `serial` seconds of a step.

  Args:
    work: the result of `count`.
    limits: the result of `control.limits`, in the dtype of the step.
  """
  floor = work['flop'] / limits['flop_per_s']
  moving = work['bytes'] / limits['bytes_per_s']
  return {'floor': floor, 'serial': floor / REACHED + moving}
