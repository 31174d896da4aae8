import pytest

from configs.common import parse_arg

DEFAULTS = {
  'smoke': False,
  'method': ('none', 'cutmix'),
  'width': 10,
  'alpha': 0.5,
  'name': 'x',
}


def test_defaults():
  for arg in (None, ''):
    values = parse_arg(arg, **DEFAULTS).to_dict()
    assert values == DEFAULTS | {'method': 'none'}


def test_values_have_the_types_of_the_defaults():
  arg = parse_arg('smoke,method=cutmix,width=2,alpha=1,name=a b', **DEFAULTS)
  assert arg.to_dict() == {
    'smoke': True,
    'method': 'cutmix',
    'width': 2,
    'alpha': 1.0,
    'name': 'a b',
  }
  assert isinstance(arg.alpha, float)
  assert parse_arg('smoke=false', **DEFAULTS).smoke is False


@pytest.mark.parametrize(
  'arg, message',
  [
    ('smok', "'smok'.*smoke, method=none"),
    ('smoke,', "''"),
    ('method=fmix', r'method=fmix.*method=none\|cutmix'),
    ('method', r'method=.*none\|cutmix'),
    ('width=2.5', 'width=2.5.*width=<int>'),
    ('width', 'width=<int>'),
    ('alpha=much', 'alpha=much.*alpha=<float>'),
    ('smoke=maybe', 'smoke=maybe'),
    ('width=1,width=2', "'width'.*twice"),
  ],
)
def test_mistakes_say_what_is_allowed(arg, message):
  with pytest.raises(ValueError, match=message):
    parse_arg(arg, **DEFAULTS)
