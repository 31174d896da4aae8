import pytest

from launch.train.schedule import StepSchedule


def boundaries(plan):
  step = 0
  while step < plan.total_steps:
    yield step
    step += plan.call_size(step)
  yield step


@pytest.mark.parametrize(
  'epochs, n, batch, steps',
  [(2, 100, 10, 20), (1, 100, 16, 6), (0.001, 100, 16, 1), (1.5, 10, 4, 4)],
)
def test_total_steps(epochs, n, batch, steps):
  assert StepSchedule(epochs, n, batch, 4).total_steps == steps


@pytest.mark.parametrize('k', [1, 3, 4, 7, 100])
def test_only_the_first_call_is_shorter(k):
  steps = list(boundaries(StepSchedule(2, 100, 10, k)))
  assert steps[-1] == 20
  assert all(b - a == k for a, b in zip(steps[1:], steps[2:], strict=False))
  assert 0 < steps[1] <= k


def test_a_run_that_was_stopped_between_the_calls_joins_them_in_one():
  # As one of a version that had its shorter call at the end.
  plan = StepSchedule(2, 100, 10, 7)
  assert list(boundaries(plan)) == [0, 6, 13, 20]
  assert plan.call_size(7) == 6


@pytest.mark.parametrize('k', [1, 4, 7])
@pytest.mark.parametrize('every', [1, 5, 6.25, 20 / 3, 50])
def test_due_once_for_each_multiple_and_never_early(k, every):
  plan = StepSchedule(10, 100, 10, k)
  due = [step for step in boundaries(plan) if plan.due(step, every)]
  expected = {
    min(s for s in boundaries(plan) if s >= i * every)
    for i in range(1, 101)
    if i * every <= 100
  }
  assert set(due) == expected
  assert 0 not in due


def test_due_epochs_counts_epochs_and_zero_means_never():
  plan = StepSchedule(4, 100, 16, 1)
  due = [s for s in boundaries(plan) if plan.due_epochs(s, 1)]
  assert due == [7, 13, 19, 25]
  assert not any(plan.due_epochs(s, 0) for s in boundaries(plan))
  assert plan.epoch(25) == 4.0


def test_more_steps_than_can_be_counted_are_refused():
  assert StepSchedule(1e6, 2147, 1, 1).total_steps == 2_147_000_000
  with pytest.raises(ValueError, match='config.epochs=1000000.0 of 2148 ex'):
    StepSchedule(1e6, 2148, 1, 1)
