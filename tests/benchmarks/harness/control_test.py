import pytest

from benchmarks.harness import control, machine
from benchmarks.harness.rounds import Result
from benchmarks.harness.timing import Times

FACTS = {'control': {'flop': 200, 'bytes': 300, 'dtype': 'float32'}}


def result(products, others=0.0):
  seconds = {control.PRODUCT: products, control.COPY: [3.0] * len(products)}
  return Result(Times(seconds), FACTS, others)


def test_limits_are_rates():
  found = control.limits(result([2.0] * 9))
  rates = {'flop_per_s': 100, 'bytes_per_s': 100}
  assert found == {**rates, 'moved': 0, 'others': 0}
  assert not control.rejected(found)


def test_a_slow_third_is_drift_and_a_slow_call_is_not():
  assert control.limits(result([2, 2, 2, 2, 9, 2, 2, 2, 2]))['moved'] == 0
  found = control.limits(result([2, 2, 2, 2, 2, 2, 3, 3, 3]))
  assert found['moved'] == pytest.approx(0.5)
  assert control.rejected(found)
  assert 'REJECTED' in control.summary(found)


def test_a_steady_load_of_others_is_rejected():
  assert control.rejected(control.limits(result([2.0] * 9, others=0.11)))
  assert not control.rejected(control.limits(result([2.0] * 9, others=0.09)))


@pytest.mark.parametrize('last, is_saved', [(2.2, True), (2.4, False)])
def test_only_results_of_a_steady_machine_are_saved(
  last, is_saved, monkeypatch, capsys
):
  saved = []
  monkeypatch.setattr(machine, 'save', lambda *args: saved.append(args))
  found = [control.limits(result([2.0] * 6 + [x] * 3)) for x in (2.0, last)]
  if is_saved:
    control.finish('name', 'text', {}, found, save=True)
  else:
    with pytest.raises(SystemExit, match=str(control.REJECTED)):
      control.finish('name', 'text', {}, found, save=True)
  assert bool(saved) == is_saved
  out = capsys.readouterr()
  assert 'text' in out.out, 'the table is printed in any case'
  assert bool(out.err) == (not is_saved)


def test_nothing_is_rejected_without_save(capsys):
  found = [control.limits(result([1.0, 2.0, 3.0]))]
  control.finish('name', 'text', {}, found, save=False)
  assert 'text' in capsys.readouterr().out
