import pytest

from benchmarks.harness.rounds import Side, alternate

ONE = Side('tests.benchmarks.harness.example_sides:one', {'value': 3})


def test_calls_take_turns_and_facts_come_through(tmp_path):
  log = tmp_path / 'log'
  several = Side(
    'tests.benchmarks.harness.example_sides:several',
    {'log': str(log)},
    env={'OWN': 'x'},
  )
  result = alternate({'one': ONE, 'two': several}, rounds=3, warm_up=1)
  assert list(result.times.seconds) == ['one', 'two, a', 'two, b']
  for seconds in result.times.seconds.values():
    assert len(seconds) == 3 and min(seconds) > 0
  assert log.read_text() == 'ab' * 4
  assert result.facts['one'] == {'value': 3, 'calls': []}
  assert result.facts['two'] == {'keeps': '0', 'own': 'x'}


@pytest.mark.parametrize('target, code', [('broken', 7), ('breaks', 1)])
def test_a_failing_side_is_named(target, code, capfd):
  bad = Side(f'tests.benchmarks.harness.example_sides:{target}')
  with pytest.raises(RuntimeError, match=f"'bad'.* {code}"):
    alternate({'good': ONE, 'bad': bad}, rounds=2)
  if target == 'breaks':
    assert 'ArithmeticError: no more' in capfd.readouterr().err


def test_sides_that_fail_the_check_are_not_timed():
  def check(facts):
    raise ValueError(f'no {facts["one"]["value"]}')

  with pytest.raises(ValueError, match='no 3'):
    alternate({'one': ONE}, rounds=2, check=check)
