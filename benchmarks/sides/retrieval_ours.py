"""Our side of `retrieval_step`: the training step of the text head."""

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.settings import get_config
from benchmarks.sides.retrieval_data import COCO_IMAGES, IMAGE_DIM, features
from jaxretrieval import task
from jaxretrieval.training import text_head
from launch.mesh import make_mesh
from launch.train.assemble import Training, assemble, build_feed


class Run(NamedTuple):
  """The step as `launch` runs it, with its initial state."""

  config: Any
  training: Training
  state: Any


def start(
  arrays: dict[str, np.ndarray],
  batch_size: int,
  steps_per_dispatch: int = 1,
  *,
  looped: bool | None = None,
) -> Run:
  """Returns the training of `configs/coco_m3l.py` on given arrays."""
  config = get_config('coco_m3l')
  config.batch_size = batch_size
  config.steps_per_dispatch = steps_per_dispatch
  # Enough dispatches for any benchmark, so none is shorter than the others.
  config.epochs = (
    100_000.0 * steps_per_dispatch * batch_size / len(arrays['image'])
  )

  def init(config, key):
    images, texts = arrays['image'][:256], arrays['text'][:256, 0]
    constants = text_head.scale_constants(config.model, images, texts)
    params = text_head.init(config.model, key, constants, images, texts)
    return params, jax.tree.map(jnp.asarray, constants)

  head: Any = types.SimpleNamespace(
    init=init,
    make_loss=lambda config, mesh: task.make_batch_loss(
      config, IMAGE_DIM, mesh
    ),
  )
  mesh = make_mesh()
  training = assemble(
    head, config, build_feed(config, arrays, mesh), mesh, looped=looped
  )
  return Run(config, training, training.initial_state())


def make(
  *, images: int, batch_size: int, steps: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes the side of `retrieval_step`: the step, and its products alone.

  Args:
    images: size of the random training set.
    batch_size: texts per step.
    steps: steps per call.
  """
  run = start(features(images), batch_size, steps)
  calls = {
    'step': make_call(run),
    'products': make_products(run, batch_size, steps),
  }
  return calls, {'jax': jax.__version__}


def make_call(run: Run) -> Callable[[], Any]:
  """Returns a function that takes the next steps and waits for them."""
  training, state = run.training, run.state
  chunks = training.feed.chunks(0)

  def call():
    nonlocal state
    state, metrics = training.train_steps(
      state, training.feed.data, next(chunks), training.key
    )
    return jax.block_until_ready((state, metrics))

  return call


def make_products(run: Run, size: int, steps: int) -> Callable[[], Any]:
  """Returns a call that computes only the matrix products of the steps."""
  # Copies, because the steps donate their parameters.
  kernels = [jnp.copy(block['kernel']) for block in run.state.params.values()]
  inputs = [jnp.ones((size, len(kernel))) for kernel in kernels]
  last = jnp.ones((size, IMAGE_DIM))

  @jax.jit
  def products(kernels, inputs, outputs):
    found = [outputs[-1] @ outputs[-1].T]  # mining
    for i, (w, x, dy) in enumerate(zip(kernels, inputs, outputs, strict=True)):
      found += [x @ w, x.T @ dy] + [dy @ w.T] * (i > 0)
    return found

  outputs = [*inputs[1:], last]

  def call():
    done = None
    for _ in range(steps):
      done = products(kernels, inputs, outputs)
      if jax.default_backend() == 'cpu':
        # Two queued programs would run at the same time.
        jax.block_until_ready(done)
    return jax.block_until_ready(done)

  return call


def compiled_memory(batch_size: int) -> dict[str, float]:
  """Returns the memory that XLA allocates for one step on the whole of COCO.

  Returns:
    MB of the arguments (features and state, updated in place) and of
    temporaries, and how often the program mentions a matrix of batch by batch.
  """
  arrays = features(300)
  run = start(arrays, batch_size, looped=True)
  shapes = {
    name: jax.ShapeDtypeStruct((COCO_IMAGES, *array.shape[1:]), array.dtype)
    for name, array in arrays.items()
  }
  block = jax.ShapeDtypeStruct((1, batch_size), jnp.int32)
  steps: Any = run.training.train_steps
  lowered = steps.lower(run.state, shapes, block, run.training.key)
  compiled = lowered.compile()
  memory = compiled.memory_analysis()
  square = f'[{batch_size},{batch_size}]'
  return {
    'arguments': memory.argument_size_in_bytes / 1e6,
    'temporaries': memory.temp_size_in_bytes / 1e6,
    'square matrices': compiled.as_text().count(square),
  }
