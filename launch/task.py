"""The contract between the run time and what it trains: four functions."""

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

  A source may also have, and the feed then prefers the first that is there:

  * `read(indices, epochs)`: the examples of all the indices at once, stacked,
    as a dict of arrays `[n, ...]`. Both arguments are integer arrays `[n]`.
    `epochs` counts the visits from 0: an example that is read again differs
    from the last time only by it. So what is random about an example, such as
    its crop, must be a function of the seed, the epoch and the index alone: a
    resumed run reads the same, in whatever order threads come.
  * `__getitems__(indices: list[int])`: a list of the examples.

  And `workers: int`, the number of threads that read (else 16), which changes
  no example; and `digest: str`, which names the examples and their order, such
  as a sha256 of what is on disk, and not where that lies. A run goes on with
  data of the same digest alone; without one only their number is compared.
  """

  def __len__(self) -> int:
    """Returns the number of examples N."""
    ...

  def __getitem__(self, index: int, /) -> Mapping[str, np.ndarray]:
    """Returns example `index`, 0 <= index < N; called from many threads."""
    ...


class Task(Protocol):
  """What a module must define for `launch.main` to train it.

  The module is named by `config.task`. It satisfies this protocol by having
  the four functions: nothing is inherited and nothing of `launch` is imported.
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
      ValueError, OSError: the data are missing or are not what the config says.
    """
    ...

  def init(self, config: Config, key: jax.Array) -> tuple[PyTree, PyTree]:
    """Creates the parameters and the model state; runs under `jax.jit`.

    Returns:
      `(params, model_state)`: `params` is what the optimizer changes,
      `model_state` what the loss carries on (running means of BatchNorm;
      `{}` where there is none).
    """
    ...

  def make_loss(self, config: Config, mesh: Mesh | None) -> Loss:
    """Creates the loss of one batch.

    Args:
      config: the config.
      mesh: the devices. None, where `config.device_count_invariant` is True: the loss
        is that of one of `config.virtual_devices` equal parts of a batch, on one
        device; the mean of the parts is that of the batch. The number of the
        part is `batch['shard']`, and what is random of its rows must be as in
        the whole batch; all rows of that are under 'whole', if they are arrays.
        Metrics must be means of floating point numbers, and integers of the
        model state the same in every part.

    Returns:
      A pure function `loss(params, model_state, batch, key)` that returns
      `(loss, (model_state, metrics))`: a scalar, the next model state, and a
      dict of scalars to log. `batch` has the arrays of `train_data`, `[B, ...]`
      with B = `config.batch_size`, sharded over the axis 'data' of `mesh`,
      and, if they are arrays, under 'resident' the whole `[N, ...]` ones, on
      every device; `key` differs for every step. The names 'loss' and
      'learning_rate' are taken by the run time.
    """
    ...

  def make_evaluators(
    self, config: Config, mesh: Mesh
  ) -> Mapping[str, Evaluate]:
    """Creates the evaluations, by name: the split or the attack they report.

    Returns:
      Functions `evaluate(params, model_state)`. One gives the device its work
      and returns a function that waits for the results: a dict of floats,
      logged as `name/key`. In between training goes on, and the arguments are
      donated. Or it returns the dict itself, and the device waits while it
      does. The names 'train' and 'time' are taken by the run time.
    """
    ...


def load_task(name: str) -> Task:
  """Imports the task module that `config.task` names.

  Raises:
    ValueError: there is no such module, or it lacks one of the four functions.
  """
  try:
    module = importlib.import_module(name)
  except ModuleNotFoundError as error:
    # A module that the task itself fails to import is another mistake, and the
    # message of Python names it.
    if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
      raise
    raise ValueError(
      f'config.task={name!r}: there is no such module'
    ) from error
  missing = [f for f in _FUNCTIONS if not callable(getattr(module, f, None))]
  if missing:
    raise ValueError(
      f'config.task={name!r}: the module lacks {", ".join(missing)}; '
      f'a task defines {", ".join(_FUNCTIONS)} (see launch/task.py)'
    )
  return cast(Task, module)
