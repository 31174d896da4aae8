import pytest

from launch.train.schedule import StepSchedule


def boundaries(schedule):
  step = 0
  while step < schedule.total_steps:
    yield step
    step += schedule.chunk_size(step)
  yield step


@pytest.mark.parametrize(
  'epochs, n, batch, steps',
  [(2, 100, 10, 20), (1, 100, 16, 6), (0.001, 100, 16, 1), (1.5, 10, 4, 4)],
)
def test_total_steps(epochs, n, batch, steps):
  assert StepSchedule(epochs, n, batch, 4).total_steps == steps


@pytest.mark.parametrize('k', [1, 3, 4, 7, 100])
def test_only_the_first_chunk_is_shorter(k):
  steps = list(boundaries(StepSchedule(2, 100, 10, k)))
  assert steps[-1] == 20
  assert all(b - a == k for a, b in zip(steps[1:], steps[2:], strict=False))
  assert 0 < steps[1] <= k


def test_a_run_that_resumes_between_chunks_gets_a_shorter_one():
  # As one of a version that had its shorter call at the end.
  schedule = StepSchedule(2, 100, 10, 7)
  assert list(boundaries(schedule)) == [0, 6, 13, 20]
  assert schedule.chunk_size(7) == 6


@pytest.mark.parametrize('k', [1, 4, 7])
@pytest.mark.parametrize('every', [1, 5, 6.25, 20 / 3, 50])
def test_runs_once_for_each_multiple_and_never_early(k, every):
  schedule = StepSchedule(10, 100, 10, k)
  due = [
    step for step in boundaries(schedule) if schedule.should_run(step, every)
  ]
  expected = {
    min(s for s in boundaries(schedule) if s >= i * every)
    for i in range(1, 101)
    if i * every <= 100
  }
  assert set(due) == expected
  assert 0 not in due


def test_a_period_in_epochs_and_zero_means_never():
  schedule = StepSchedule(4, 100, 16, 1)
  due = [s for s in boundaries(schedule) if schedule.should_run_epochs(s, 1)]
  assert due == [7, 13, 19, 25]
  assert not any(schedule.should_run_epochs(s, 0) for s in boundaries(schedule))
  assert schedule.epoch(25) == 4.0


def test_due_at_the_end_is_everything():
  schedule = StepSchedule(4, 100, 16, 1, eval_every=1.0, checkpoint_every=2.0)
  due = {s: schedule.due_at(s) for s in boundaries(schedule)}
  assert [s for s in due if due[s].evaluate] == [7, 13, 19, 25]
  assert [s for s in due if due[s].checkpoint] == [13, 25]
  assert [s for s in due if due[s].last] == [25]
  assert StepSchedule(4, 100, 16, 1).due_at(25) == (True, True, True)


def test_more_steps_than_can_be_counted_are_refused():
  assert StepSchedule(1e6, 2147, 1, 1).total_steps == 2_147_000_000
  with pytest.raises(ValueError, match=r'config.epochs=1000000.0 .*2148'):
    StepSchedule(1e6, 2148, 1, 1)
