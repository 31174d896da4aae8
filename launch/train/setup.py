"""Everything a run is made of, put together before the first step."""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from launch.checkpoints.disk import check_space
from launch.checkpoints.manager import Checkpoints
from launch.config import (
  Config,
  config_fingerprint,
  flatten,
  is_location,
  write_config,
)
from launch.mesh import check_batch_size, make_mesh, on_cpu
from launch.processes.shared_progress import (
  SharedProgress,
  has_watchdog,
  open_shared_progress,
)
from launch.processes.sync import check_same, of_rank_0, rank_0_first
from launch.shell.exit_codes import ExitCode, classify_errors
from launch.task import Evaluate, Task
from launch.train.compilations import CompilationCounter
from launch.train.data_checks import check_inputs, record_inputs
from launch.train.feeds import Feed, count_examples, make_feed
from launch.train.invariant_step import (
  check_virtual_devices,
  make_invariant_steps,
)
from launch.train.metrics_log import TrainLog
from launch.train.optimizer import make_optimizer, make_schedule
from launch.train.progress import Progress
from launch.train.schedule import StepSchedule
from launch.train.state import (
  TrainState,
  abstract_state,
  initial_state,
  make_init,
  make_keys,
  make_snapshot,
)
from launch.train.step import TrainSteps, make_train_steps, values_of
from launch.workdir import env
from launch.workdir.lock import hold_lock
from launch.workdir.metrics import MetricWriter, keep_rows

# Seconds that a network file system may hide what another machine wrote.
_SLOW_FOLDER = 120


class Run(NamedTuple):
  """A run at the step where it begins or goes on.

  Attributes:
    mesh: the devices of all processes.
    pulse: shows the guard of this process how far it is.
    plan: when things happen.
    feed: where batches come from.
    train_steps: the compiled step.
    snapshot: copies a state on the devices.
    key: the key of training.
    evaluators: the task's evaluations by name.
    checkpoints: where states are kept.
    writer: where metrics go.
    progress: what people see.
    log: reads the metrics of training.
    step: the number of steps done.
    state: the state after them.
  """

  mesh: Mesh
  pulse: SharedProgress
  plan: StepSchedule
  feed: Feed
  train_steps: TrainSteps
  snapshot: Callable[[TrainState], TrainState]
  key: jax.Array
  evaluators: Mapping[str, Evaluate]
  checkpoints: Checkpoints
  writer: MetricWriter
  progress: Progress
  log: TrainLog
  step: int
  state: TrainState


@contextlib.contextmanager
def open_run(
  task: Task, config: Config, workdir: pathlib.Path
) -> Iterator[Run]:
  """Prepares a run, or the rest of one; closes its files at the end.

  Yields:
    The run at step 0, or at its newest checkpoint.

  Raises:
    ValueError, OSError: the data, the batch size, the evaluators, the
      checkpoints or the disk do not fit, or another process trains here; the
      run is as it was.
  """
  with (
    contextlib.closing(CompilationCounter()) as compiles,
    contextlib.ExitStack() as closing,
  ):
    mesh, pulse = make_mesh(), open_shared_progress()
    pulse.mark(0)
    if not has_watchdog():  # else it has the lock
      closing.enter_context(hold_lock(workdir))
    check_batch_size(config.batch_size, mesh)
    with classify_errors(ExitCode.DATA):
      source = task.train_data(config)
      digest = check_inputs(source, config.batch_size, workdir)
    pulse.mark(0)
    plan = StepSchedule(
      config.epochs,
      count_examples(source),
      config.batch_size,
      config.steps_per_dispatch,
    )
    elastic = config.device_count_invariant
    if elastic:
      check_virtual_devices(config.virtual_devices, mesh)
    feed = make_feed(source, config.seed, plan, mesh, everywhere=elastic)
    schedule = make_schedule(config.optimizer, plan)
    optimizer = make_optimizer(config.optimizer, schedule)
    loss = task.make_loss(config, None if elastic else mesh)
    with classify_errors(ExitCode.DATA):
      evaluators = task.make_evaluators(config, mesh)
    if taken := {'train', 'time'} & evaluators.keys():
      raise ValueError(f'config.task={config.task}: evaluators called {taken}')

    init_key, key = make_keys(config.seed, mesh)
    init = make_init(task, config, optimizer)
    target = abstract_state(init, init_key, mesh)
    identity = _identity(config, plan, digest, mesh)
    check_same(_facts(config) | identity | env.versions())
    folder = workdir / 'checkpoints'
    check_space(folder, config.keep_checkpoints, target)
    progress = Progress(plan, shown=jax.process_index() == 0)
    closing.callback(progress.close)
    checkpoints = Checkpoints(
      folder,
      config.keep_checkpoints,
      identity,
      max_failures=config.max_save_failures,
      tell=progress.note,
    )
    closing.callback(checkpoints.close)
    step, state = _restore(checkpoints, target) or (
      0,
      initial_state(init, init_key, mesh),
    )
    if step > plan.total_steps:
      raise ValueError(
        f'config.epochs={config.epochs} are {plan.total_steps} steps, and '
        f'{workdir} is at step {step}'
      )
    if jax.process_index() == 0:
      write_config(config, workdir)
      record_inputs(digest, source, workdir)
      # It asks git, which takes as long as a step or many.
      recorder = closing.enter_context(ThreadPoolExecutor(1, 'env'))
      closing.callback(recorder.submit(env.record_start, workdir, step).result)
      if not step:
        keep_rows(workdir, progress.note)
    ended = step == plan.total_steps
    writer = MetricWriter(
      workdir,
      step,
      config.tensorboard,
      again=ended or plan.due_epochs(step, config.eval_every),
      tell=progress.note,
    )
    closing.callback(writer.close)
    progress.begin(step)
    progress.note(f'{workdir}: step {step} of {plan.total_steps}')
    if elastic:
      train_steps = make_invariant_steps(
        loss,
        optimizer,
        schedule,
        feed,
        mesh,
        batch_size=config.batch_size,
        shards=config.virtual_devices,
        max_skipped=config.max_skipped_steps,
      )
    else:
      train_steps = make_train_steps(
        loss,
        optimizer,
        schedule,
        feed.select,
        mesh,
        max_skipped=config.max_skipped_steps,
      )
    yield Run(
      mesh=mesh,
      pulse=pulse,
      plan=plan,
      feed=feed,
      train_steps=train_steps,
      key=key,
      evaluators=evaluators,
      checkpoints=checkpoints,
      writer=writer,
      progress=progress,
      snapshot=make_snapshot(mesh),
      log=TrainLog(
        plan,
        config.log_every,
        step + _settled(config, plan),
        writer,
        progress,
        compiles,
        values_of(target.params),
        config.max_skipped_steps,
      ),
      step=step,
      state=state,
    )


def _restore(
  checkpoints: Checkpoints, target: TrainState
) -> tuple[int, TrainState] | None:
  """The newest good checkpoint, which is that of process 0."""
  with rank_0_first('restore'):  # It puts damaged ones aside.
    restored = checkpoints.restore(target)
  wanted = of_rank_0(restored[0] if restored else -1)
  deadline = time.monotonic() + _SLOW_FOLDER
  while (restored[0] if restored else -1) != wanted:
    if time.monotonic() > deadline:
      raise OSError(
        f'checkpoint {wanted} of process 0 is not seen here: is --workdir one '
        'folder that all processes share?'
      )
    time.sleep(1)
    restored = checkpoints.restore(target)
  return restored


def _facts(config: Config) -> dict[str, Any]:
  """What of the config all processes must have: all but where data lie."""
  return {
    f'config.{name}': value
    for name, value in flatten(config).items()
    if not name.startswith('data.') and not is_location(name)
  }


def _settled(config: Config, plan: StepSchedule) -> int:
  """Steps until everything has happened once, and so been compiled."""
  epochs = max(1, config.eval_every, config.checkpoint_every)
  # What falls due happens at the next call, and is looked at after another.
  return plan.steps(epochs) + 2 * plan.steps_per_dispatch


def _identity(
  config: Config, plan: StepSchedule, digest: str | None, mesh: Mesh
) -> dict[str, str | int | None]:
  # The batch size and the number of examples fix what a step means: with
  # others, the order of the examples would silently be another one.
  found = {
    'seed': config.seed,
    'batch_size': config.batch_size,
    'examples': plan.examples,
    'data': digest,
    'config': config_fingerprint(config),
  }
  if config.device_count_invariant and on_cpu(mesh):
    # A convolution is cut into as many parts, which are added up.
    threads = os.environ.get('NPROC') or len(os.sched_getaffinity(0))
    found['threads (NPROC)'] = int(threads)
  return found
