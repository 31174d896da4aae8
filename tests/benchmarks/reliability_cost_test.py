import pytest

from benchmarks import reliability_cost
from benchmarks.harness.rounds import Result
from benchmarks.harness.settings import get_config
from benchmarks.harness.timing import Times
from benchmarks.sides import reliability_files, retrieval_ours
from benchmarks.sides import reliability_step as steps
from launch.train import step


@pytest.fixture
def small_head(monkeypatch):
  def small(name):
    config = get_config(name)
    config.model.hidden = (8, 8)
    return config

  monkeypatch.setattr(retrieval_ours, 'get_config', small)


@pytest.mark.slow
def test_all_sides_take_the_same_steps(small_head):
  finite = step._finite
  calls, facts = steps.make_head(images=64, batch_size=16, steps=2)
  names = [steps.CHECKED, steps.FIRSTS, steps.PLAIN, steps.AGAIN]
  assert list(calls) == [*names, steps.ALONE]
  assert list(facts['losses']) == names
  steps.compare({'step': facts})
  first, second = facts['losses'][steps.PLAIN]
  assert first != second, 'the second step changes nothing'
  for call in calls.values():
    call()
  assert step._finite is finite, 'a patch was not undone'


def test_sides_that_differ_are_named():
  losses = {steps.CHECKED: [1.0, 0.9], steps.PLAIN: [1.0, 0.8]}
  with pytest.raises(ValueError, match=steps.CHECKED):
    steps.compare({'step': {'losses': losses}})


def test_a_line_for_every_side():
  seconds = {steps.CHECKED: [2.2, 2.0, 2.2], steps.FIRSTS: [2.0, 2.0, 2.0]}
  times = Times(seconds | {steps.PLAIN: [2.0, 2.0, 2.0]})
  lines = reliability_cost.step_table('net', Result(times, {}, 0.25), 2)
  text = '\n'.join(lines)
  assert (
    f'| {steps.CHECKED} | 1100.00 | 1000.00 | 1.100 (1.000–1.100) |' in text
  )
  assert 'gradients alone: 1.100' in text and '25%' in text


@pytest.mark.slow
def test_files_are_saved_restored_and_verified():
  here = reliability_files
  files = here.measure(rounds=3, megabytes=0.5)
  assert files.size == pytest.approx(0.5e6, rel=0.1) and files.leaves == 63
  assert files.stored[0] > files.size
  wanted = {*here.CALLS, *here.PARTS, here.CPU, here.SNAPSHOT, here.GIVEN}
  assert files.seconds.keys() == wanted
  assert {len(x) for x in files.seconds.values()} == {3}
  for i, took in enumerate(files.seconds[here.SAVE]):
    assert sum(files.seconds[part][i] for part in here.PARTS) < took
  text = '\n'.join(reliability_cost.file_tables(files))
  assert all(f'| {name} |' in text for name in wanted)
