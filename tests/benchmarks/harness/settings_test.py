import sys

import ml_collections
import pytest

from benchmarks.harness import settings


@pytest.mark.parametrize(
  'name, arg',
  [
    ('table1_cifar', None),
    ('quickstart', 'smoke,method=cutmix'),
    ('coco_m3l', 'loss=patr'),
    ('coco_m3l', 'smoke'),
  ],
)
def test_configs_are_the_same_without_ml_collections(name, arg, monkeypatch):
  expected = settings.get_config(name, arg)
  assert isinstance(expected, ml_collections.ConfigDict)
  for module in [x for x in sys.modules if x.startswith('configs.')]:
    monkeypatch.delitem(sys.modules, module)
  monkeypatch.setattr(ml_collections, 'ConfigDict', settings.ConfigDict)
  made = settings.get_config(name, arg)
  assert type(made) is settings.ConfigDict
  assert made.to_dict() == expected.to_dict()
