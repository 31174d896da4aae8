"""Config schemas: the check of a config against a schema that is plain data.

A schema is a nested dict in the vocabulary of JSON Schema. A task writes its
own without importing `launch`, and documentation can be generated from it. As
in JSON Schema a keyword constrains only values of the type that it is about.

* `type`: 'object' (a block of fields), 'array' (a list or tuple), 'string',
  'boolean', 'integer' or 'number', or a list of these. True is not a number.
* `enum`; `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`;
  `pattern` (of the whole string, explained by `description`); `items`,
  `minItems`, `maxItems`, `uniqueItems`; `anyOf`; `description`.
* `properties`, `additionalProperties` (a schema): the fields of a block. Unlike
  in JSON Schema no other fields are allowed, and every field of `properties`
  must be present, unless `required` lists those that must be.
* `discriminator`: `{'path': 'mix.name', 'mapping': {value: schema}}`. The value
  at that path of the config chooses a schema with further `properties` of the
  block.
"""

import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

# Below and above, a float32 is 0 or infinite.
FLOAT32_MIN, FLOAT32_MAX = 1e-37, 3e38

_TYPES = {
  'object': 'a block of fields',
  'array': 'a list',
  'string': 'a string',
  'boolean': 'True or False',
  'integer': 'an integer',
  'number': 'a number',
}


def check(config: Any, schema: Schema) -> None:
  """Checks a config, or any nested mapping, against a schema.

  Raises:
    ValueError: a field is missing, unknown, or has a value that is not allowed.
      The message begins with `config.<field>` and names what is allowed.
  """
  _check_block(config, schema, '', config)


def _check_block(block: Any, schema: Schema, path: str, config: Any) -> None:
  """Checks the fields of the block `config.<path>`."""
  properties, required = _fields(schema)
  variant, where = {}, ''
  if 'discriminator' in schema:
    selector = schema['discriminator']['path']
    mapping = schema['discriminator']['mapping']
    chosen = _get(config, selector)
    if not isinstance(chosen, str) or chosen not in mapping:
      hint = properties.get(selector.removeprefix(f'{path}.'), {}).get(
        'description'
      )
      raise ValueError(
        f'config.{selector}={chosen!r} must be '
        f'{describe({"enum": list(mapping)})}{f" ({hint})" if hint else ""}'
      )
    where = f' with config.{selector}={chosen!r}'
    variant, needed = _fields(mapping[chosen])
    properties, required = properties | variant, required | needed
    _check_switch(block, properties, needed, mapping, path, where)
  for name in properties:
    if name in required and name not in block:
      raise ValueError(
        f'config.{_join(path, name)} is missing{where}: it must be '
        f'{describe(properties[name])}'
      )
  others = schema.get('additionalProperties')
  for name in block:
    field, value = _join(path, name), block[name]
    part = properties.get(name, others)
    if part is None:
      raise ValueError(
        f'{_shown(field, value)} is not a known field{where}; the fields of '
        f'config{path and f".{path}"} are {", ".join(sorted(properties))}'
      )
    if not _fits(value, part):
      raise ValueError(
        f'config.{field}={value!r} must be {describe(part)}'
        f'{where if name in variant else ""}'
      )
    if _is_type(value, 'object'):
      _check_block(value, part, field, config)


def _check_switch(
  block: Any,
  properties: Mapping[str, Schema],
  needed: set[str],
  mapping: Mapping[str, Schema],
  path: str,
  where: str,
) -> None:
  """Raises ValueError if a name was changed and the fields of its block not."""
  others = {name for other in mapping.values() for name in _fields(other)[1]}
  missing = sorted(needed - set(block))
  foreign = sorted((others - properties.keys()) & set(block))
  if foreign:
    name = where.removeprefix(' with ')
    if missing:
      problem = (
        f'{name} needs other fields in config.{path}: {", ".join(missing)} '
        f'instead of {", ".join(foreign)}'
      )
    else:
      problem = (
        f'{_shown(_join(path, foreign[0]), block[foreign[0]])} does not belong '
        f'to {name}: leave out {", ".join(foreign)}'
      )
    raise ValueError(
      f'{problem}. No flag adds or removes fields: write the block {path!r} in '
      "the config file, or in a copy of a run's config.json"
    )


def _shown(path: str, value: Any) -> str:
  """Returns `config.<path>=<value>`; of a block only the path."""
  return f'config.{path}' + ('' if _is_type(value, 'object') else f'={value!r}')


def _fields(schema: Schema) -> tuple[dict[str, Schema], set[str]]:
  """Returns the properties of a block, and the names of those it must have."""
  properties = dict(schema.get('properties', {}))
  return properties, set(schema.get('required', properties))


def _get(config: Any, path: str) -> Any:
  """Returns the value of the field `config.<path>`."""
  value, done = config, ''
  for name in path.split('.'):
    if done and not _is_type(value, 'object'):
      raise ValueError(f'config.{done}={value!r} must be {_TYPES["object"]}')
    done = _join(done, name)
    if name not in value:
      raise ValueError(f'config.{done} is missing')
    value = value[name]
  return value


def _join(path: str, name: str) -> str:
  return f'{path}.{name}' if path else str(name)


def _is_type(value: Any, name: str) -> bool:
  if name == 'object':  # A ConfigDict is not a Mapping.
    return hasattr(value, 'keys')
  if name == 'array':
    return isinstance(value, list | tuple)
  if name == 'string':
    # No file or module has a name with NUL in it.
    return isinstance(value, str) and '\0' not in value
  if name == 'boolean':
    return isinstance(value, bool)
  # bool is a subclass of int: batch_size=True is a mistake.
  numbers = int if name == 'integer' else int | float
  return isinstance(value, numbers) and not isinstance(value, bool)


def _fits(value: Any, schema: Schema) -> bool:
  """Returns whether a value is allowed; fields of a block are not looked at."""
  if 'anyOf' in schema:
    return any(_fits(value, part) for part in schema['anyOf'])
  if 'type' in schema and not any(
    _is_type(value, name) for name in _type_names(schema)
  ):
    return False
  if 'enum' in schema:
    return value in schema['enum']
  if _is_type(value, 'number'):
    return (
      schema.get('minimum', value) <= value <= schema.get('maximum', value)
      and (
        'exclusiveMinimum' not in schema or value > schema['exclusiveMinimum']
      )
      and (
        'exclusiveMaximum' not in schema or value < schema['exclusiveMaximum']
      )
    )
  if _is_type(value, 'string') and 'pattern' in schema:
    return re.fullmatch(schema['pattern'], value) is not None
  if _is_type(value, 'array'):
    least, most = schema.get('minItems', 0), schema.get('maxItems', len(value))
    different = not schema.get('uniqueItems') or all(
      value.index(item) == i for i, item in enumerate(value)
    )
    return (
      least <= len(value) <= most
      and all(_fits(item, schema.get('items', {})) for item in value)
      and different
    )
  return True


def _type_names(schema: Schema) -> list[str]:
  names = schema['type']
  return [names] if isinstance(names, str) else list(names)


def describe(schema: Schema) -> str:
  """Returns what a schema allows, in words.

  >>> describe({'type': 'integer', 'minimum': 1, 'maximum': 10})
  'an integer from 1 to 10'
  >>> describe({'type': 'number', 'minimum': 0, 'exclusiveMaximum': 1})
  'a number from 0 to below 1'
  >>> describe({'type': 'number', 'exclusiveMinimum': 0, 'maximum': 9})
  'a number above 0, at most 9'
  >>> describe({'type': 'number', 'minimum': 1e-37, 'maximum': 3e38})
  'a positive finite number in float32'
  >>> describe({'enum': ['sgd', 'adam']})
  "'sgd' or 'adam'"
  """
  if 'anyOf' in schema:
    return ' or '.join(map(describe, schema['anyOf']))
  if 'enum' in schema:
    *most, last = map(repr, schema['enum'])
    return f'{", ".join(most)} or {last}' if most else last
  if 'pattern' in schema:
    return schema['description']
  words = []
  for name in _type_names(schema):
    text = _TYPES[name]
    if name in ('integer', 'number'):
      text = _describe_number(text, schema)
    elif name == 'array':
      text = _describe_array(schema)
    words.append(text)
  return ' or '.join(words)


def _describe_number(words: str, schema: Schema) -> str:
  least, most = schema.get('minimum'), schema.get('maximum')
  above, below = (schema.get(f'exclusive{x}') for x in ('Minimum', 'Maximum'))
  if least is not None and least == most:
    return f'{words} equal to {_number(least)}'
  if most == FLOAT32_MAX:
    if least == FLOAT32_MIN:
      return 'a positive finite number in float32'
    words, most = 'a finite number in float32,', None
  if least is not None:
    words += f' from {_number(least)}'
  elif above is not None:
    words += f' above {_number(above)}'
  if most is not None:
    words += f'{" to" if above is None else ", at most"} {_number(most)}'
  elif below is not None:
    words += f'{" to" if above is None else ","} below {_number(below)}'
  return words


def _describe_array(schema: Schema) -> str:
  least, most = schema.get('minItems', 0), schema.get('maxItems')
  words = 'a list'
  if least and least == most:
    words += f' of {least} items'
  elif least:
    words += f' of {least} or more items'
  if schema.get('uniqueItems'):
    words += ', all different'
  if 'items' in schema:
    words += f', each {describe(schema["items"])}'
  return words


def _number(value: float) -> str:
  return str(value) if isinstance(value, int) else f'{value:g}'
