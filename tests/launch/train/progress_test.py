import pytest

from launch.train import progress
from launch.train.progress import Progress, Throughput
from launch.train.schedule import StepSchedule


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_compiling_and_evaluating_are_not_counted():
  clock = Clock()
  throughput = Throughput(clock)
  clock.now += 30  # compiles
  throughput.arrived(4, compiled=True)
  assert throughput.rates(10) == {}, 'compiling is no throughput'
  clock.now += 2
  throughput.arrived(4)
  throughput.pause()
  clock.now += 50  # evaluates, then takes the next steps
  throughput.arrived(4)
  clock.now += 2
  throughput.arrived(4)
  assert throughput.rates(10) == pytest.approx(
    {'time/step_ms': 500.0, 'time/examples_per_s': 20.0}
  )
  assert throughput.rates(10) == {}, 'the means restart'
  clock.now += 30
  throughput.arrived(4, compiled=True)
  assert throughput.rates(10) == {}


def test_plain_lines_come_every_ten_seconds(monkeypatch, capsys):
  clock = Clock()
  monkeypatch.setattr(progress.time, 'monotonic', clock)
  shown = Progress(StepSchedule(10, 100, 10, 1))
  shown.begin(20)
  for step in range(21, 61):
    clock.now += 1
    shown.update(step, 0.25)
  lines = capsys.readouterr().err.splitlines()
  assert lines == [
    'step 30/100  loss 0.25  10 examples/s  ETA 0:01:10',
    'step 40/100  loss 0.25  10 examples/s  ETA 0:01:00',
    'step 50/100  loss 0.25  10 examples/s  ETA 0:00:50',
    'step 60/100  loss 0.25  10 examples/s  ETA 0:00:40',
  ]


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
  monkeypatch.setattr(
    progress.sys.stderr, 'isatty', lambda: True, raising=False
  )
  shown = Progress(StepSchedule(10, 100, 10, 1))
  shown.begin(20)
  shown.update(60, 0.25)
  shown.note('step 60  test/accuracy 0.5')
  shown.close()
  shown = capsys.readouterr().err
  assert '60/100' in shown and 'examples/s' in shown
  assert 'test/accuracy 0.5' in shown
