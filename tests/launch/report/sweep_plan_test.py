import pytest

from launch.report.sweep_plan import without_seed


@pytest.mark.parametrize(
  ('entry', 'name'),
  [
    ('method=a,seed=1', 'method=a'),
    ('seed=1,method=a', 'method=a'),
    ('data.seed=3,seed=0', 'data.seed=3'),
    ('seed=1', 'all seeds'),
  ],
)
def test_an_entry_is_named_without_its_seed(entry, name):
  assert without_seed(entry) == name
