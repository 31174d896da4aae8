import math

import pytest
from ml_collections import ConfigDict

from launch import schema

NUMBER = {'type': 'number', 'minimum': 0, 'exclusiveMaximum': 1}
SHAPE = {
  'type': 'array',
  'items': {'type': 'integer', 'minimum': 1},
  'minItems': 1,
  'maxItems': 2,
  'uniqueItems': True,
}
SCHEMA = {
  'type': 'object',
  'properties': {
    'rate': NUMBER,
    'every': {'anyOf': [{'type': 'number', 'enum': [0]}, NUMBER]},
    'shape': SHAPE,
    'name': {'type': 'string', 'enum': ['a', 'b']},
    'path': {'type': 'string', 'pattern': 'x+', 'description': 'many x'},
    'alpha': {
      'type': ['number', 'object'],
      'minimum': 0,
      'properties': {'one': NUMBER},
      'required': [],
    },
    'block': {
      'type': 'object',
      'properties': {'on': {'type': 'boolean'}},
      'discriminator': {
        'path': 'name',
        'mapping': {
          'a': {'properties': {'size': {'type': 'integer'}}},
          'b': {'properties': {'text': {'type': 'string'}}},
        },
      },
    },
    'evals': {'type': 'object', 'additionalProperties': NUMBER},
  },
}


def make(**fields):
  default = {
    'rate': 0.5,
    'every': 0,
    'shape': (1, 2),
    'name': 'a',
    'path': 'xx',
    'alpha': 1,
    'block': {'on': True, 'size': 3},
    'evals': {},
  }
  return ConfigDict(default | fields)


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'rate': 0, 'every': 0.5, 'shape': [2]},
    {'alpha': {}, 'evals': {'x': 0.1, 'y': 0}},
    {'alpha': {'one': 0.5}},
    {'name': 'b', 'block': {'on': False, 'text': ''}},
  ],
)
def test_an_allowed_config(fields):
  schema.check(make(**fields), SCHEMA)


@pytest.mark.parametrize(
  'field, value',
  [
    *(('rate', x) for x in (True, None, '0', -0.1, 1, math.nan, 10**400)),
    *(('every', x) for x in (False, 1, math.inf, '0')),
    *(('shape', x) for x in ((), (1, 2, 3), (1, 1), (0,), (True,), '12', 1)),
    *(('name', x) for x in ('c', 3, ('a',), None)),
    *(('path', x) for x in ('', 'xy', 'x\n', 'x\0', 3)),
    *(('alpha', x) for x in (-1, None, 'x', True)),
    *(('block', x) for x in (None, 3, 'on')),
    ('evals', 3),
  ],
)
def test_a_value_that_is_not_allowed_is_named(field, value):
  with pytest.raises(ValueError) as error:
    schema.check(make(**{field: value}), SCHEMA)
  assert str(error.value).startswith(f'config.{field}={value!r} must be ')


@pytest.mark.parametrize(
  'fields, path',
  [
    ({'note': 1}, 'note='),
    ({'block': {'size': 3}}, 'block.on is missing'),
    ({'block': {'on': True}}, 'block.size is missing'),
    ({'block': {'on': True, 'size': 3, 'more': 1}}, 'block.more='),
    ({'block': {'on': True, 'size': 'x'}}, 'block.size='),
    ({'name': 'b'}, "name='b' needs .* text instead of size"),
    (
      {'block': {'on': True, 'size': 3, 'text': ''}},
      "block.text='' .*name='a'",
    ),
    ({'alpha': {'two': 0.5}}, 'alpha.two='),
    ({'alpha': {'one': 1}}, 'alpha.one=1'),
    ({'evals': {'x': 1}}, 'evals.x=1'),
  ],
)
def test_a_field_of_a_block_is_named(fields, path):
  with pytest.raises(ValueError, match=f'^config.{path}'):
    schema.check(make(**fields), SCHEMA)


def test_a_missing_field_that_chooses_others_is_named():
  config = make()
  del config['name']
  with pytest.raises(ValueError, match='^config.name is missing'):
    schema.check(config, SCHEMA)
