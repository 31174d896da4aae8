"""Task: the protocol of the modules that `launch.main` trains."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh

from launch.config import Config

# Nested dicts (or any pytree) of arrays.
PyTree = Any
Loss = Callable[
  [PyTree, PyTree, PyTree, jax.Array],
  tuple[jax.Array, tuple[PyTree, Mapping[str, jax.Array]]],
]
Results = Mapping[str, float]
Evaluate = Callable[[PyTree, PyTree], Results | Callable[[], Results]]

_FUNCTIONS = ('train_data', 'init', 'make_loss', 'make_evaluators')


@runtime_checkable
class RandomAccess(Protocol):
  """Training examples that are read one by one, such as a tfds data source.

  A source may also have one of these methods, which is then called instead of
  `__getitem__`; the first is preferred:

  * `read(indices, epochs)`: returns the examples of all indices, stacked, as a
    dict of arrays `[n, ...]`. Both arguments are integer arrays `[n]`. `epochs`
    counts the visits of an example from 0. Whatever is random about an example,
    such as its crop, must be a function of the seed, the epoch and the index
    alone, so that a resumed run reads the same examples, whatever the order of
    the threads.
  * `__getitems__(indices: list[int])`: returns a list of the examples.

  It may have two attributes: `workers: int`, the number of threads that read
  (default: 16), which does not change the examples; and `fingerprint: str`,
  which identifies the examples and their order, such as a sha256 of the files,
  but not their location. A run resumes only with data of the same fingerprint;
  without one only the number of examples is compared.
  """

  def __len__(self) -> int:
    """Returns the number of examples N."""
    ...

  def __getitem__(self, index: int, /) -> Mapping[str, np.ndarray]:
    """Returns example `index`, 0 <= index < N; called from many threads."""
    ...


class Task(Protocol):
  """A module that `launch.main` can train: four functions.

  `config.task` names the module. It satisfies this protocol by having the four
  functions: it inherits nothing and imports nothing of `launch`.

  It may also have `SCHEMA`: the fields of the config that the task reads, as
  plain data in the vocabulary of `launch.schema`. Then the whole config is
  checked once, before any of the functions is called: types, ranges, missing
  and unknown fields. The fields of a task without a `SCHEMA` are its own to
  check.
  """

  def train_data(
    self, config: Config
  ) -> Mapping[str, np.ndarray] | RandomAccess:
    """Loads the training examples.

    Returns:
      Either host arrays `[N, ...]` that share the leading axis: they are copied
      to the device once and batches are gathered inside the compiled step. Or
      a `RandomAccess` source: batches are read by threads and sent to the
      device ahead of time. The order of the examples is the same for both.

    Raises:
      ValueError, OSError: the data is missing or does not fit the config.
    """
    ...

  def init(self, config: Config, key: jax.Array) -> tuple[PyTree, PyTree]:
    """Creates the parameters and the model state; runs under `jax.jit`.

    Returns:
      `(params, model_state)`: the optimizer updates `params`, and the loss
      updates `model_state` (the running means of BatchNorm; `{}` if there are
      none).
    """
    ...

  def make_loss(self, config: Config, mesh: Mesh | None) -> Loss:
    """Creates the loss of one batch.

    Args:
      config: the config.
      mesh: the devices. None if `config.device_count_invariant` is True: the
        loss is that of one virtual device, which has one of
        `config.virtual_devices` equal parts of a batch, and the loss of the
        batch is the mean of theirs. `batch['virtual_device']` is its index.
        What is random about its examples must be the same as in the whole
        batch, which is under 'whole' if the examples are arrays. Metrics must
        be means of floating point numbers, and integers of the model state the
        same on every virtual device.

    Returns:
      A pure function `loss(params, model_state, batch, key)` that returns
      `(loss, (model_state, metrics))`: a scalar, the next model state, and a
      dict of scalars to log. `batch` has the arrays of `train_data`, `[B, ...]`
      with B = `config.batch_size`, sharded over the axis 'data' of `mesh`. If
      `train_data` returned arrays, the whole of them, `[N, ...]`, is under
      'resident' on every device. `key` differs for every step. The framework
      uses the names 'loss' and 'learning_rate' itself.
    """
    ...

  def make_evaluators(
    self, config: Config, mesh: Mesh
  ) -> Mapping[str, Evaluate]:
    """Creates the evaluations, by the name of a split or an attack.

    Returns:
      Functions `evaluate(params, model_state)`. Such a function queues its work
      on the device and returns a function that waits for the results, a dict of
      floats that are logged as `name/key`. Training continues in between, and
      the arguments are donated. Or it returns the dict itself; then training
      waits. The framework uses the names 'train' and 'time' itself.
    """
    ...


def load_task(name: str) -> Task:
  """Imports the task module that `config.task` names.

  Raises:
    ValueError: the module does not exist, or lacks one of the four functions.
  """
  try:
    module = importlib.import_module(name)
  except ModuleNotFoundError as error:
    # If the task itself fails to import a module, Python's message names it.
    if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
      raise
    raise ValueError(
      f'config.task={name!r} is not the import path of a module'
    ) from error
  missing = [f for f in _FUNCTIONS if not callable(getattr(module, f, None))]
  if missing:
    raise ValueError(
      f'config.task={name!r}: the module lacks {", ".join(missing)}; '
      f'a task defines {", ".join(_FUNCTIONS)} (see launch/task.py)'
    )
  return cast(Task, module)
