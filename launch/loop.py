"""The training loop."""

import pathlib
from collections.abc import Collection

import jax

from launch.config import Config, check_config
from launch.evaluation import begin
from launch.resume import check_workdir
from launch.run import open_run
from launch.signals import go_on, stop_requests
from launch.task import Task
from launch.timing import show_metrics
from launch.writers import final_metrics


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

    1. Queue what is due of the state that the last call leaves: a copy of it to
       save, and its evaluation.
    2. Draw the next K batches and queue the next call; it takes the state away.
    3. Read the metrics of the last call. What has diverged is not saved.
    4. Save the copy in the background. Before 5, so that an evaluator that
       fails costs no training.
    5. Read the evaluation and write its row.

  At the end of the run, or if SIGTERM or SIGINT came, there is no next call:
  the state itself is saved, and only when it is safe the row that ends a run is
  written, or the process left. A resumed run begins at 1, with the evaluation.

  Args:
    task: the four functions of `launch.task.Task`.
    config: the config; `check_config` says what is read here.
    workdir: the folder of the run, created if need be. A run that has ended
      is not touched.
    allow_resume_change: fields of `launch.config.SCHEDULE` in which the config
      may differ from the one that the run began with.

  Returns:
    The metrics of the last evaluation, by `evaluator/metric`.

  Raises:
    ValueError: a config, data or a workdir that cannot be trained.
    FloatingPointError: the loss is not finite; names the step.
    SystemExit: a signal came and the state is saved; the code is 128 + signal.
  """
  check_config(config)
  check_workdir(config, workdir, allow_resume_change)
  if (before := final_metrics(workdir)) is not None:
    print(f'{workdir}: finished before')
    return before
  with stop_requests() as stop, open_run(task, config, workdir) as run:
    plan, log, checkpoints = run.plan, run.log, run.checkpoints
    step, state, blocks = run.step, run.state, run.feed.blocks(run.step)
    # A hidden copy between host and device is an error, not a slow run.
    with jax.transfer_guard('disallow'):
      while True:
        here, ended, signal = step, step == plan.total_steps, stop()
        leaving, saved, evaluation = ended or signal, None, None
        saving = leaving or plan.due_epochs(here, config.checkpoint_every)
        if saving and checkpoints.latest_step() != here:
          saved = state if leaving else run.snapshot(state)
        if not signal and (ended or plan.due_epochs(here, config.eval_every)):
          evaluation = begin(run.evaluators, state)
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
        if saved:
          checkpoints.save(here, saved)
        if leaving:
          checkpoints.wait()
        if signal:
          run.progress.note(
            f'stopped by {signal.name} at step {here} of {plan.total_steps}; '
            f'{go_on()}'
          )
          raise SystemExit(128 + signal)
        if evaluation:
          results = evaluation()
          log.evaluated()
          run.writer.write(here, plan.epoch(here), results, final=ended)
          run.progress.note(f'step {here}  {show_metrics(results)}')
          if ended:
            return results
