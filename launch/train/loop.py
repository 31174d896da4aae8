"""The training loop."""

import pathlib
import sys
from collections.abc import Collection
from functools import partial
from typing import NoReturn

import jax

from launch.checkpoints import manifest
from launch.config import Config, check_config
from launch.processes.sync import StopConsensus, of_rank_0
from launch.shell.console import log_line
from launch.shell.signals import resume_hint, stop_requests
from launch.task import Task
from launch.train.evaluation import begin
from launch.train.progress import show_metrics
from launch.train.resume import check_workdir
from launch.train.setup import open_run
from launch.workdir.metrics import final_metrics


def fit(
  task: Task,
  config: Config,
  workdir: pathlib.Path,
  *,
  allow_resume_change: Collection[str] = (),
) -> dict[str, float]:
  """Trains to the end of the run, from wherever `workdir` has got to.

  The device never waits for the host: at the boundary between two calls it gets
  the work of the next before anything of the last is waited for.

    1. Queue what is due of the state that the last call leaves: its evaluation,
       and a copy of it to keep.
    2. Draw the next K batches and queue the next call; it takes the state away.
    3. Read the metrics of the last call. What has diverged is not saved.
    4. Save the copy in the background. Before 5, so that an evaluator that
       fails costs no training.
    5. Read the evaluation and write its row.

  At the end of the run, or if SIGTERM or SIGINT came, there is no next call:
  the state itself is saved, and only when it is safe the row that ends a run is
  written, or the process left. A signal that comes while 1 or 5 evaluates does
  not wait for it: the copy is saved, and the resumed run begins at 1, with the
  evaluation.

  Args:
    task: the four functions of `launch.task.Task`.
    config: the config; `check_config` says what is read here.
    workdir: the folder of the run, created if need be. A run that has ended
      is not touched.
    allow_resume_change: fields of `launch.config.RESUMABLE_FIELDS` in which the config
      may differ from the one that the run began with.

  Returns:
    The metrics of the last evaluation, by `evaluator/metric`.

  Raises:
    ValueError, OSError: a config, data or a workdir that cannot be trained, or
      a disk that takes no checkpoints; see `launch.shell.exit_codes`.
    FloatingPointError: a loss or a gradient is not finite; names both and the
      step.
    SystemExit: a signal came and the state is saved; the code is 128 + signal.
  """
  check_config(config, getattr(task, 'SCHEMA', None))
  changes = check_workdir(config, workdir, allow_resume_change)
  before = final_metrics(workdir)
  if of_rank_0(before is not None and 'epochs' not in changes):
    log_line(f'{workdir}: finished before', sys.stdout)
    _warn_of_damage(workdir)
    return before or {}
  with stop_requests() as stop, open_run(task, config, workdir) as run:
    plan, log, checkpoints = run.plan, run.log, run.checkpoints
    for change in changes.values():
      run.progress.note(change)
    votes = StopConsensus(stop, run.mesh)
    step, state, blocks = run.step, run.state, run.feed.blocks(run.step)

    def save(step, state):
      # No checkpoint says that rows are written which are not on disk.
      checkpoints.save(step, state, before=run.writer.sync)

    def leave(signal) -> NoReturn:
      checkpoints.wait(stop)
      stop.ignore()
      run.progress.note(
        f'stopped by {signal.name}; step {checkpoints.latest_step()} of '
        f'{plan.total_steps} is saved; {resume_hint()}'
      )
      raise SystemExit(128 + signal)

    # A hidden copy between host and device is an error, not a slow run.
    with jax.transfer_guard('disallow'):
      while True:
        here, ended = step, step == plan.total_steps
        kept = evaluation = None
        evaluating = ended or plan.due_epochs(here, config.eval_every)
        run.pulse.mark(here, calling=not evaluating)
        if evaluating:
          evaluation = votes.or_none(
            partial(begin, run.evaluators, state.params, state.model_state)
          )
        signal = votes()
        leaving = ended or signal
        if leaving:
          run.pulse.mark(here)  # A last save takes what it takes.
        saving = leaving or plan.due_epochs(here, config.checkpoint_every)
        saving = saving and checkpoints.latest_step() != here
        if saving or evaluating:
          kept = state if leaving else run.snapshot(state)
        if not leaving:
          count, block = plan.call_size(here), next(blocks)
          # To compile, constants are read back from the device.
          guard = 'allow' if log.calling(count) else 'disallow'
          with jax.transfer_guard(guard):
            state, metrics = run.train_steps(
              state, run.feed.data, block, run.key
            )
          step += count
          log.called(step, metrics)
          stop.hold()  # From now on there is something to lose.
        log.read(here)
        if saving:
          save(here, kept)
        if ended:
          checkpoints.wait(stop)
        if signal:
          leave(signal)
        if evaluation:
          results = votes.or_none(evaluation)
          if results is None:
            if checkpoints.latest_step() != here:
              save(here, kept)
            leave(votes())
          log.evaluated()
          run.writer.write(here, plan.epoch(here), results, final=ended)
          run.progress.note(f'step {here}  {show_metrics(results)}')
          if ended:
            run.writer.sync()
            return results


def _warn_of_damage(workdir: pathlib.Path) -> None:
  """Tells if the state that a run ended with is not there any more."""
  folder = workdir / 'checkpoints'
  try:
    newest = max(manifest.steps(folder), default=None)
    if newest is None:
      raise ValueError(f'{folder} holds no checkpoint')
    manifest.check(folder / str(newest), f'checkpoint {newest}')
  except (ValueError, OSError) as error:
    log_line(
      f'warning: {workdir} has ended, its numbers stand, but the state that it '
      f'ended with is lost ({error}): put back a copy, or train it again in '
      'another --workdir'
    )
