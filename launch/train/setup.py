"""Setup of a run: all that the training loop needs, opened and checked."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from launch.checkpoints.disk import check_space
from launch.checkpoints.manager import Checkpoints
from launch.config import Config, write_config
from launch.mesh import make_mesh, on_cpu
from launch.processes.shared_progress import (
  SharedProgress,
  has_watchdog,
  open_shared_progress,
)
from launch.processes.sync import check_same
from launch.shell.exit_codes import ExitCode, classify_errors
from launch.task import Evaluate, Task
from launch.train.assemble import (
  Training,
  assemble,
  build_feed,
  check_devices,
)
from launch.train.compilations import CompilationCounter
from launch.train.data_checks import check_inputs, record_inputs
from launch.train.metrics_log import MetricsLog
from launch.train.progress import Progress
from launch.train.resume import restore_newest
from launch.train.schedule import StepSchedule
from launch.train.state import TrainState, make_snapshot
from launch.train.step import checked_values
from launch.workdir import env
from launch.workdir.identity import run_identity, shared_fields
from launch.workdir.lock import hold_lock
from launch.workdir.metrics import MetricWriter, back_up_records

# Names that the trainer uses for its own metrics.
_RESERVED = {'train', 'time'}


class RunContext(NamedTuple):
  """Everything that `fit` needs: training step, evaluators, checkpoints, log.

  Attributes:
    training: the feed, the compiled step and its key.
    snapshot: copies a state on the devices.
    evaluators: the evaluators of the task, by name.
    checkpoints: saves and restores states.
    log: writes and shows metrics.
    shared: tells the watchdog of this process how far it is.
    step: the number of steps done.
    state: the state at `step`.
  """

  training: Training
  snapshot: Callable[[TrainState], TrainState]
  evaluators: Mapping[str, Evaluate]
  checkpoints: Checkpoints
  log: MetricsLog
  shared: SharedProgress
  step: int
  state: TrainState


@contextlib.contextmanager
def open_run(
  task: Task, config: Config, workdir: pathlib.Path
) -> Iterator[RunContext]:
  """Opens a run at step 0 or at its newest checkpoint; closes its files.

  Everything that can be refused is refused before the first file is written.

  Raises:
    ValueError, OSError: the data, the devices, the evaluators, the checkpoints
      or the disk do not fit, or another process trains in `workdir`.
  """
  with contextlib.ExitStack() as stack:
    compilations = stack.enter_context(contextlib.closing(CompilationCounter()))
    mesh, shared = make_mesh(), open_shared_progress()
    shared.mark(0)
    if not has_watchdog():  # else the watchdog holds the lock
      stack.enter_context(hold_lock(workdir))
    check_devices(config, mesh)
    with classify_errors(ExitCode.DATA):
      data = task.train_data(config)
      fingerprint = check_inputs(data, config.batch_size, workdir)
    shared.mark(0)
    training = assemble(task, config, build_feed(config, data, mesh), mesh)
    schedule, target = training.schedule, training.abstract_state()
    evaluators = _make_evaluators(task, config, mesh)
    identity = run_identity(
      config,
      examples=schedule.examples,
      data_fingerprint=fingerprint,
      threads=_threads(config, mesh),
    )
    check_same(shared_fields(config) | identity | env.versions())

    progress = Progress(schedule, shown=jax.process_index() == 0)
    stack.callback(progress.close)
    folder = workdir / 'checkpoints'
    check_space(folder, config.keep_checkpoints, target)
    checkpoints = Checkpoints(
      folder,
      config.keep_checkpoints,
      identity,
      max_failures=config.max_save_failures,
      warn=progress.note,
    )
    stack.callback(checkpoints.close)
    restored = restore_newest(checkpoints, target)
    step, state = restored or (0, training.initial_state())
    if step > schedule.total_steps:
      raise ValueError(
        f'config.epochs={config.epochs} are {schedule.total_steps} steps, but '
        f'{workdir} is at step {step} already: raise config.epochs'
      )
    if jax.process_index() == 0:
      write_config(config, workdir)
      record_inputs(fingerprint, data, workdir)
      # This runs git, which takes as long as one step or many.
      recorder = stack.enter_context(ThreadPoolExecutor(1, 'env'))
      stack.callback(recorder.submit(env.record_start, workdir, step).result)
      if not step:
        back_up_records(workdir, progress.note)
    writer = MetricWriter(
      workdir,
      step,
      config.tensorboard,
      again=schedule.due_at(step).evaluate,
      warn=progress.note,
    )
    stack.callback(writer.close)
    progress.begin(step)
    progress.note(f'{workdir}: step {step} of {schedule.total_steps}')
    log = MetricsLog(
      schedule,
      writer,
      progress,
      compilations,
      log_every=config.log_every,
      compiled_by=step + _steps_to_compile(schedule),
      checked_values=checked_values(target.params),
      max_skipped=config.max_skipped_steps,
    )
    yield RunContext(
      training,
      make_snapshot(mesh),
      evaluators,
      checkpoints,
      log,
      shared,
      step,
      state,
    )


def _make_evaluators(
  task: Task, config: Config, mesh: Mesh
) -> Mapping[str, Evaluate]:
  """Returns the evaluators of the task, whose names are checked."""
  with classify_errors(ExitCode.DATA):
    evaluators = task.make_evaluators(config, mesh)
  if reserved := _RESERVED & evaluators.keys():
    raise ValueError(
      f'config.task={config.task} has evaluators named {sorted(reserved)}; '
      'these names are reserved for the trainer: rename them'
    )
  return evaluators


def _threads(config: Config, mesh: Mesh) -> int | None:
  """Returns the CPU threads of this process if results depend on them."""
  if not (config.device_count_invariant and on_cpu(mesh)):
    return None
  # XLA cuts a convolution into as many parts, which are added up.
  return int(os.environ.get('NPROC') or len(os.sched_getaffinity(0)))


def _steps_to_compile(schedule: StepSchedule) -> int:
  """Returns the steps until each event ran once, and so was compiled."""
  epochs = max(1, schedule.eval_every, schedule.checkpoint_every)
  # An event runs before the next dispatch; its metrics are read after another.
  return schedule.steps(epochs) + 2 * schedule.steps_per_dispatch
