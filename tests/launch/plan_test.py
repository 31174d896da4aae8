import pytest

from launch.plan import Plan


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
  assert Plan(epochs, n, batch, 4).total_steps == steps


@pytest.mark.parametrize('k', [1, 3, 4, 7, 100])
def test_calls_are_aligned_and_end_at_the_end(k):
  steps = list(boundaries(Plan(2, 100, 10, k)))
  assert steps[-1] == 20
  assert all(step % k == 0 for step in steps[:-1])


@pytest.mark.parametrize('k', [1, 4, 7])
@pytest.mark.parametrize('every', [1, 5, 6.25, 20 / 3, 50])
def test_due_once_for_each_multiple_and_never_early(k, every):
  plan = Plan(10, 100, 10, k)
  due = [step for step in boundaries(plan) if plan.due(step, every)]
  expected = {
    min(s for s in boundaries(plan) if s >= i * every)
    for i in range(1, 101)
    if i * every <= 100
  }
  # The last call may be cut short: the loop is at its end there anyway.
  assert set(due) | {100} == expected | {100}
  assert 0 not in due


def test_due_epochs_counts_epochs_and_zero_means_never():
  plan = Plan(4, 100, 16, 1)
  due = [s for s in boundaries(plan) if plan.due_epochs(s, 1)]
  assert due == [7, 13, 19, 25]
  assert not any(plan.due_epochs(s, 0) for s in boundaries(plan))
  assert plan.epoch(25) == 4.0
