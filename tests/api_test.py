"""The public names of jaxmix, as a reader of its documentation meets them."""

import ast
import inspect
import pathlib
import re

import pytest

import jaxmix

NAMES = sorted(
  name
  for name, value in vars(jaxmix).items()
  if not name.startswith('_') and not inspect.ismodule(value)
)
FUNCTIONS = [n for n in NAMES if inspect.isfunction(getattr(jaxmix, n))]
# Guided draws take the shape from the saliency.
GUIDED = ['draw_saliency_mix', 'draw_puzzle_mix', 'draw_co_mixup']
# Draws for hidden activations: of several shapes, or of any shape.
HIDDEN = {'draw_manifold_mixup': 'batch', 'draw_patchup': 'shapes'}
KEYED = [
  n
  for n in FUNCTIONS
  if 'key' in inspect.signature(getattr(jaxmix, n)).parameters
]


def parameters(name):
  return list(inspect.signature(getattr(jaxmix, name)).parameters.values())


def test_the_names_are_those_we_promise():
  # A change here is a change for every user: it belongs in the changelog.
  modes = ['mixup', 'cutmix', 'resizemix', 'fmix', 'random_mix']
  modes += ['cutout', 'saliency_mix', 'puzzle_mix', 'co_mixup']
  draws = [f'draw_{mode}' for mode in [*modes, 'identity', 'partner']]
  draws += ['draw_manifold_mixup', 'draw_patchup']
  rest = [
    'MODES',
    'Mix',
    'apply',
    'fill_box',
    'mix_labels',
    'mixed_cross_entropy',
    'mixed_sigmoid_cross_entropy',
    'with_lengths',
  ]
  rest += ['gradient_saliency', 'spectral_residual']
  rest += ['take_blocks', 'block_labels']
  rest += ['HiddenMix', 'apply_hidden']
  assert NAMES == sorted(modes + draws + rest)


def test_version_is_a_version():
  # pyproject.toml reads it.
  assert re.fullmatch(r'\d+\.\d+\.\d+', jaxmix.__version__)


def test_init_has_names_and_the_version_only():
  file = jaxmix.__file__
  assert file is not None
  docstring, *body = ast.parse(pathlib.Path(file).read_text()).body
  assert isinstance(docstring, ast.Expr)
  version = body.pop()
  assert ast.unparse(version) == f'__version__ = {jaxmix.__version__!r}'
  for node in body:
    assert isinstance(node, ast.ImportFrom), f'line {node.lineno}: not a name'
    assert (node.module or '').startswith('jaxmix._src.')
    for alias in node.names:
      assert alias.asname == alias.name, (
        f'{alias.name} is not re-exported as itself: type checkers hide it'
      )


def test_type_information_is_shipped():
  file = jaxmix.__file__
  assert file is not None
  assert (pathlib.Path(file).parent / 'py.typed').exists()


@pytest.mark.parametrize('name', KEYED)
def test_key_comes_first(name):
  assert parameters(name)[0].name == 'key'


def test_random_functions_take_a_key():
  modes = ['mixup', 'cutmix', 'resizemix', 'fmix', 'random_mix', 'cutout']
  modes += ['saliency_mix', 'puzzle_mix', 'co_mixup']
  random = {n for n in FUNCTIONS if n.startswith('draw_')} | set(modes)
  assert set(KEYED) == random


@pytest.mark.parametrize('name', KEYED)
def test_data_comes_second(name):
  names = [p.name for p in parameters(name)]
  if name == 'draw_partner':
    assert names[1] == 'batch'
  elif name in GUIDED:
    assert names[1] == 'saliency'
  elif name in HIDDEN:
    assert names[1] == HIDDEN[name]
  elif name.startswith('draw_'):
    assert names[1] == 'shape'
  else:
    assert names[1:3] == ['images', 'labels']


@pytest.mark.parametrize('name', FUNCTIONS)
def test_options_are_keywords_and_data_is_positional(name):
  for parameter in parameters(name):
    optional = parameter.default is not parameter.empty
    keyword = parameter.kind is parameter.KEYWORD_ONLY
    assert optional == keyword, f'{name}({parameter.name})'


@pytest.mark.parametrize('name', FUNCTIONS)
def test_every_parameter_and_result_has_a_type(name):
  signature = inspect.signature(getattr(jaxmix, name))
  for parameter in signature.parameters.values():
    assert parameter.annotation is not parameter.empty, parameter.name
  assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize('name', FUNCTIONS)
def test_docstrings_are_complete(name):
  text = inspect.getdoc(getattr(jaxmix, name)) or ''
  for section in ('Args:', 'Returns:', 'Raises:'):
    assert section in text.splitlines(), f'{name}: no section {section!r}'
  assert '>>> ' in text, f'{name}: no example'
  args = text.split('Args:')[1].split('Returns:')[0]
  for parameter in parameters(name):
    assert f'\n  {parameter.name}: ' in args, (
      f'{name}: {parameter.name} is not documented'
    )


@pytest.mark.parametrize('name', FUNCTIONS)
def test_references_lead_to_a_description(name):
  # "alpha: see `jaxmix.draw_cutmix`.": at most two steps, never in a circle.
  for argument, other in references(name).items():
    assert argument in [p.name for p in parameters(other)]
    other = references(other).get(argument, other)
    assert argument not in references(other), (
      f'{name}: {argument} refers to {other}, which refers on'
    )


def references(name):
  text = inspect.getdoc(getattr(jaxmix, name)) or ''
  return dict(re.findall(r'\n  (\w+): see `jaxmix\.(\w+)`', text))


@pytest.mark.parametrize('name', NAMES)
def test_docstrings_begin_with_a_sentence(name):
  text = inspect.getdoc(getattr(jaxmix, name)) or ''
  first = text.splitlines()[0]
  assert first.endswith('.') or first.endswith(':'), f'{name}: {first!r}'


@pytest.mark.parametrize('draw', [jaxmix.Mix, jaxmix.HiddenMix])
def test_attributes_of_a_draw_are_documented(draw):
  text = inspect.getdoc(draw) or ''
  attributes = text.split('Attributes:')[1]
  for name in inspect.signature(draw).parameters:
    assert f'\n  {name}: ' in attributes, f'{name} is not documented'


def test_options_have_one_default_everywhere():
  # An option means the same in every function.
  defaults = {}
  for name in FUNCTIONS:
    for p in parameters(name):
      if name in HIDDEN and p.name == 'alpha':
        assert p.default == 2, 'both papers have another one'
      elif p.default is not p.empty:
        known = defaults.setdefault(p.name, (name, p.default))
        assert p.default == known[1], (
          f'{p.name}={p.default!r} in {name}, {known[1]!r} in {known[0]}'
        )
