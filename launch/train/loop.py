"""Training loop: `fit` trains, evaluates, saves and resumes a run."""

import pathlib
from collections.abc import Callable, Collection
from signal import Signals
from typing import NoReturn

import jax

from launch.config import Config, check_config
from launch.processes.sync import StopConsensus
from launch.shell.signals import StopSignals, resume_hint, stop_requests
from launch.task import PyTree, Task
from launch.train.evaluation import Results, queue_evaluation
from launch.train.resume import check_workdir, finished_metrics
from launch.train.setup import RunContext, open_run
from launch.train.state import TrainState


def fit(
  task: Task,
  config: Config,
  workdir: pathlib.Path,
  *,
  allow_resume_change: Collection[str] = (),
) -> dict[str, float]:
  """Trains to the end of the run, from step 0 or the newest checkpoint.

  The device never waits for the host: between two dispatches it gets the work
  of the next before the host waits for a result of the last.

    1. Queue the evaluation of the current state, if it is due.
    2. Copy the state if it is needed later, draw the next K batches and
       dispatch their steps. The dispatch consumes the state.
    3. Read the metrics of the last dispatch. A state that has diverged is not
       saved.
    4. Save the copy in the background, if a checkpoint is due. This comes
       before 5, so that an evaluator that fails costs no training.
    5. Read the evaluation and write its record.

  At the end of the run, or after SIGTERM or SIGINT, nothing is dispatched and
  the state itself is saved. The final record is written after that checkpoint
  is on disk. A signal does not wait for the evaluation in 1 or 5: the state is
  saved, and the resumed run starts with 1.

  Args:
    task: the four functions of `launch.task.Task`.
    config: the config, see `launch.config.check_config`.
    workdir: the folder of the run, created if needed. The files of a finished
      run are not changed.
    allow_resume_change: fields of `launch.workdir.identity.RESUMABLE_FIELDS`
      whose value may differ from that of the run in `workdir`.

  Returns:
    The metrics of the last evaluation, by `evaluator/metric`.

  Raises:
    ValueError, OSError: the config, the data or the workdir do not fit, or the
      disk takes no checkpoints; see `launch.shell.exit_codes`.
    FloatingPointError: a loss or a gradient is not finite; names it and the
      step.
    SystemExit: a signal arrived and the state is saved; the code is
      128 + signal.
  """
  check_config(config, getattr(task, 'SCHEMA', None))
  changes = check_workdir(config, workdir, allow_resume_change)
  finished = finished_metrics(workdir, extended='epochs' in changes)
  if finished is not None:
    return finished
  with stop_requests() as stop, open_run(task, config, workdir) as run:
    for change in changes.values():
      run.log.note(change)
    consensus = StopConsensus(stop, run.training.mesh)
    step, state, schedule = run.step, run.state, run.training.schedule
    chunks = run.training.feed.chunks(step)
    # A hidden copy between host and device is an error, not a slow run.
    with jax.transfer_guard('disallow'):
      while True:
        here, kept, due = step, state, schedule.due_at(step)
        evaluation = _queue_evaluation(run, consensus, here, state)  # 1
        signal = consensus()
        if due.last or signal:
          run.shared.mark(here)  # The last save has no time limit.
        else:  # 2
          if due.evaluate or due.checkpoint:
            kept = run.snapshot(state)
          step, state = _dispatch(run, here, state, next(chunks))
          stop.defer()  # From now on a signal waits for a save.
        run.log.read(here)  # 3
        if due.checkpoint:  # 4
          _save_if_new(run, here, kept)
        if due.last:
          run.checkpoints.wait(stop)
        if evaluation and not signal:  # 5
          results, signal = _read_evaluation(run, consensus, here, evaluation)
          if due.last and results is not None:
            return results
        if signal:
          _leave(run, stop, signal, here, kept)


def _queue_evaluation(
  run: RunContext, consensus: StopConsensus, step: int, state: TrainState
) -> Callable[[], Results] | None:
  """Queues the evaluation of a state, if it is due.

  Returns:
    A function that reads the results; None if the evaluation is not due or a
    signal came first.
  """
  due = run.training.schedule.due_at(step).evaluate
  run.shared.mark(step, dispatching=not due)
  if not due:
    return None
  return consensus.or_none(
    lambda: queue_evaluation(run.evaluators, state.params, state.model_state)
  )


def _read_evaluation(
  run: RunContext,
  consensus: StopConsensus,
  step: int,
  evaluation: Callable[[], Results],
) -> tuple[Results | None, Signals | None]:
  """Waits for an evaluation and writes its record.

  Returns:
    The results, or None if a signal came first; the signal, if any.
  """
  results = consensus.or_none(evaluation)
  if results is None:
    return None, consensus()
  run.log.write_evaluation(step, results)
  return results, None


def _dispatch(
  run: RunContext, step: int, state: TrainState, chunk: PyTree
) -> tuple[int, TrainState]:
  """Queues the steps of a chunk; returns the step and the state after them."""
  training = run.training
  size = training.schedule.chunk_size(step)
  # Compilation reads constants back from the device.
  first = run.log.is_first_of_size(size)
  with jax.transfer_guard('allow' if first else 'disallow'):
    state, metrics = training.train_steps(
      state, training.feed.data, chunk, training.key
    )
  run.log.dispatched(step + size, metrics)
  return step + size, state


def _save_if_new(run: RunContext, step: int, state: TrainState) -> None:
  """Saves a state in the background, unless its step is saved already."""
  if run.checkpoints.latest_step() != step:
    # No checkpoint may be ahead of the metric records on disk.
    run.checkpoints.save(step, state, before=run.log.sync)


def _leave(
  run: RunContext,
  stop: StopSignals,
  signal: Signals,
  step: int,
  state: TrainState,
) -> NoReturn:
  """Saves the state and ends the process, as the signal asked for."""
  _save_if_new(run, step, state)
  run.checkpoints.wait(stop)
  stop.ignore()
  run.log.note(
    f'stopped by {signal.name}; step {run.checkpoints.latest_step()} of '
    f'{run.training.schedule.total_steps} is saved; {resume_hint()}'
  )
  raise SystemExit(128 + signal)
