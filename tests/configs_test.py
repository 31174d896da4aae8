"""Every config: flat, runnable as its header says, and accepted by its task."""

import ast
import importlib
import pathlib
import re
import shlex
import sys

import jax
import pytest
from absl import flags
from ml_collections import config_flags

from configs.common import LOSSES, METHODS, MINERS
from jaxmix.classification import task
from jaxmix.classification.datasets import splits
from jaxretrieval import task as retrieval_task
from jaxretrieval.training import objective, text_head
from launch.config import check_config, flatten
from launch.mesh import make_mesh
from launch.report.sweep_plan import SweepPlan, without_seed
from launch.sweep.entries import sweep_entries
from launch.train.schedule import StepSchedule

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'configs'
NAMES = sorted(x.stem for x in FOLDER.glob('*.py') if x.stem != '__init__')
RETRIEVAL = {
  'coco_m3l': ('loss=patr,text=laser',),
  'flickr8k_m3l': ('paper', *(f'loss={loss}' for loss in LOSSES)),
  'multi30k_m3l': ('train=en,de,fr', *(f'loss={loss}' for loss in LOSSES)),
  'retrieval_quickstart': tuple(f'loss={loss}' for loss in LOSSES),
}
CLASSIFICATION = sorted(set(NAMES) - set(RETRIEVAL))
# Those that take `:method=`.
MIXED = sorted(set(CLASSIFICATION) - {'table6_candidates'})
# Those whose header has numbers of PAPER: RandomMix and no mixing.
RANDOM_MIX_TABLES = (
  'imagenet_resnet50',
  'table1_cifar',
  'table3_speech',
  'tiny_imagenet_preact',
)
# The order in which a config file tells its experiment.
STORY = (
  *('task', 'seed', 'data', 'model', 'batch_norm', 'epochs', 'batch_size'),
  *('virtual_devices', 'device_count_invariant', 'optimizer', 'augment'),
  *('mix', 'label_smoothing', 'loss', 'mining', 'evals', 'eval_every'),
  *('log_every', 'steps_per_dispatch', 'checkpoint_every'),
  *('keep_checkpoints', 'max_save_failures', 'max_skipped_steps'),
  'tensorboard',
)

# How ml_collections imports a config.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')

every_file = pytest.mark.parametrize('name', NAMES)


def module(name):
  return importlib.import_module(f'configs.{name}')


def source(name):
  return (FOLDER / f'{name}.py').read_text()


def get_config(name, *args):
  return module(name).get_config(','.join(filter(None, args)) or None)


def sweeps():
  return [name for name in NAMES if hasattr(module(name), 'sweep')]


def difference(one, other):
  one, other = flatten(one), flatten(other)
  absent = object()
  return {
    field
    for field in one | other
    if one.get(field, absent) != other.get(field, absent)
  }


# What a file shows.


def shown_fields(name):
  """Returns the fields that `config.x = value` sets, in their order."""

  def leaves(path, value):
    if isinstance(value, ast.Dict):
      for key, item in zip(value.keys, value.values, strict=True):
        assert isinstance(key, ast.Constant), 'a field with a computed name'
        yield from leaves(f'{path}.{key.value}', item)
    else:
      yield path

  nodes = [
    x for x in ast.walk(ast.parse(source(name))) if isinstance(x, ast.Assign)
  ]
  shown = []
  for node in sorted(nodes, key=lambda node: node.lineno):
    path = ast.unparse(node.targets[0])
    if path.startswith('config.'):
      shown += leaves(path.removeprefix('config.'), node.value)
  return shown


def block(field):
  return field.split('.')[0]


@pytest.mark.parametrize('name', sorted(set(NAMES) - {'table5_weights'}))
def test_a_config_shows_all_its_fields_in_the_order_of_the_story(name):
  shown = shown_fields(name)
  # The options of a method or a loss stand in configs/common.
  common = {'mix', 'loss'} & set(shown)
  fields = {x for x in flatten(get_config(name)) if block(x) not in common}
  assert not fields - set(shown), f'configs/{name}.py hides fields'
  blocks = list(dict.fromkeys(map(block, shown)))
  assert blocks == [x for x in STORY if x in blocks]


def test_table_5_is_table_4_by_another_argument():
  one, other = module('table5_weights'), module('table4_robustness')
  assert one.get_config is other.get_config


@pytest.mark.parametrize('names', [METHODS, LOSSES, MINERS])
def test_methods_and_losses_are_listed_in_one_place(names):
  one = '|'.join(names)
  listed = re.compile(rf'\b(?:{one})\b(?:\W+(?:or |and )?(?:{one})\b){{2}}')
  for name in NAMES:
    found = listed.search(source(name))
    assert not found, f'configs/{name}.py lists {found[0]!r}'


def header_commands(name):
  """The commands of a header, as lists of words."""
  header = (module(name).__doc__ or '').replace('\\\n', ' ')
  return [
    shlex.split(line)
    for line in header.splitlines()
    if line.startswith('  python -m launch.')
  ]


@every_file
def test_the_header_says_how_to_run_it(name):
  header = module(name).__doc__ or ''
  assert ':smoke' in header
  assert re.search('^Data( and cost)?: ', header, re.M)
  assert re.search('^(Data and cost|Cost|Cost of a run): ', header, re.M)
  assert (':method=NAME' in header) == (name in MIXED)
  ran = set()
  for command in header_commands(name):
    ran.add(command[2])
    if command[2] == 'launch.report':
      continue
    options = dict(x.removeprefix('--').split('=', 1) for x in command[3:])
    path, _, arg = options.pop('config').partition(':')
    assert path == f'configs/{name}.py'
    assert options.pop('workdir') == 'W'
    fields = {f'config.{field}' for field in flatten(get_config(name, arg))}
    assert options.keys() <= fields
  assert 'launch.main' in ran
  assert ('launch.sweep' in ran) == ('launch.report' in ran)
  assert ('launch.sweep' in ran) == hasattr(module(name), 'sweep')


@pytest.mark.parametrize('name', RANDOM_MIX_TABLES)
def test_the_header_has_numbers_of_the_paper(name):
  header = module(name).__doc__ or ''
  for entry, metrics in module(name).PAPER.items():
    if 'random_mix' in entry:
      assert f'{100 * metrics["clean/top1"]:.2f}' in header


def test_the_flagship_is_a_cell_of_table_1():
  cell = 'model=wrn,data=cifar100'
  for method in METHODS:
    one = get_config('cifar100_wrn', f'method={method}')
    assert one == get_config('table1_cifar', cell, f'method={method}')
  header = module('cifar100_wrn').__doc__ or ''
  for method in ('random_mix', 'none'):
    top1 = module('table1_cifar').PAPER[f'{cell},method={method}']['clean/top1']
    assert f'{100 * top1:.2f}' in header


# What the training framework and the tasks accept.


@pytest.fixture
def parse(monkeypatch):
  """Reads a config as the command line does."""

  def parse(name, arg='', **fields):
    path = FOLDER / f'{name}.py'
    command = ['main', f'--config={path}{arg and ":"}{arg}']
    command += [f'--config.{field}={value}' for field, value in fields.items()]
    monkeypatch.setattr(sys, 'argv', command)  # ml_collections looks there
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file('config', flag_values=values)
    values(command)
    return config.value

  return parse


@every_file
def test_flags_override_and_the_argument_selects(parse, name):
  config = parse(name, 'smoke', **{'optimizer.lr': 0.05})
  assert config.is_locked
  assert config.optimizer.lr == 0.05
  assert config.batch_size == 16


@every_file
def test_an_unknown_argument_is_named(name):
  with pytest.raises(ValueError, match="'smok'.*smoke"):
    get_config(name, 'smok')


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(set(MIXED) - {'table5_weights'}))
def test_every_method_is_accepted_and_changes_nothing_but_the_mix(name):
  usual = get_config(name)
  for method in METHODS:
    config = get_config(name, f'method={method}')
    changed = difference(usual, config)
    assert {x for x in changed if block(x) != 'mix'} == (
      {'augment.cutout'} if method == 'cutout' else set()
    )
    assert bool(changed) == (method != 'random_mix')
    check_config(config)
    if 'depth' in config.model:
      config.model.depth = 10  # quicker, with the same stages
    task.make_loss(config, make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize('name', RETRIEVAL)
def test_retrieval_configs_are_accepted(name):
  usual = get_config(name)
  for arg in ('', 'smoke', *RETRIEVAL[name]):
    config = get_config(name, arg)
    check_config(config, retrieval_task.SCHEMA)
    objective.make_loss_fn(config.loss)
    objective.make_mining(config.mining, make_mesh(jax.devices()[:1]))
    text_head.create(config.model, 32)
    missing = flatten(usual).keys() ^ flatten(config).keys()
    assert all(field.startswith('loss.') for field in missing)


@every_file
def test_smoke_is_four_steps_of_the_same_experiment(name):
  usual, smoke = get_config(name), get_config(name, 'smoke')
  check_config(smoke)
  if name in RETRIEVAL:
    examples = smoke.data.train_images
  else:
    examples = splits.dataset_spec(smoke.data).train_examples
    assert splits.dataset_spec(smoke.data).test_examples <= 100
  plan = StepSchedule(
    smoke.epochs, examples, smoke.batch_size, smoke.steps_per_dispatch
  )
  assert plan.total_steps == 4
  assert smoke.optimizer.lr <= 0.1, 'small batches diverge at more'
  same = {'task', 'seed', 'augment', 'mix', 'loss', 'mining', 'label_smoothing'}
  assert not same & set(map(block, difference(usual, smoke)))


def test_languages_follow_in_the_argument():
  config = get_config('multi30k_m3l', 'train=en,de,fr,smoke')
  assert config.data.languages == ('en', 'de', 'fr')
  assert config.data.train_images == 64, 'smoke was taken for a language'


def test_the_quickstart_stays_small():
  config = get_config('quickstart')
  params, _ = jax.eval_shape(
    lambda key: task.init(config, key), jax.random.key(0)
  )
  count = sum(x.size for x in jax.tree.leaves(params))
  assert count < 100_000, 'it is meant for two CPU cores'


# What configs have in common.


@pytest.mark.parametrize(
  'one, other, fields',
  [
    (
      ('tiny_imagenet_preact', ''),
      ('table1_cifar', 'model=preact'),
      {'data.name', 'model.stem_stride'},
    ),
    (
      ('tiny_imagenet_preact', ''),
      ('table6_candidates', 'candidates=MC'),
      {'mix.candidates', 'mix.weights'},
    ),
    (
      ('table6_candidates', 'small'),
      ('table4_robustness', 'small,mixup=1'),
      {'eval_every'},
    ),
    (
      ('cifar100_wrn', ''),
      ('table4_robustness', 'mixup=3'),
      {'eval_every'},
    ),
  ],
)
def test_configs_of_the_paper_differ_only_where_they_should(one, other, fields):
  changed = difference(get_config(*one), get_config(*other))
  assert {x for x in changed if block(x) != 'evals'} == fields


# Sweeps.


@pytest.mark.parametrize('name', sweeps())
def test_a_sweep_has_three_seeds_and_a_smoke_one(name):
  entries = sweep_entries(module(name), '', {})
  seeds = [config.seed for config in entries.values()]
  assert seeds.count(0) == seeds.count(1) == seeds.count(2) == len(seeds) / 3
  smoke = sweep_entries(module(name), 'smoke', {})
  assert list(smoke) == [x for x in entries if 'seed=0' in x]


@pytest.mark.parametrize(
  'name', [name for name in NAMES if hasattr(module(name), 'PAPER')]
)
def test_a_table_has_the_entries_and_the_metrics_of_the_paper(name):
  paper = module(name).PAPER
  entries = sweep_entries(module(name), '', {})
  names = list(dict.fromkeys(map(without_seed, entries)))
  # The paper lacks one set of candidates.
  assert names == list(paper) or set(names) == {*paper, 'candidates=RF'}
  for entry, config in entries.items():
    metrics = set(paper.get(without_seed(entry), {})) - {'cost'}
    assert all(x.partition('/')[0] in config.evals for x in metrics)
  for metrics in paper.values():
    assert all(0 < x < 1 or metric == 'cost' for metric, x in metrics.items())


@pytest.mark.parametrize(
  'name', [name for name in NAMES if hasattr(module(name), 'BASELINE')]
)
def test_every_entry_has_a_baseline_to_be_timed_beside(name):
  entries = [without_seed(x) for x in sweep_entries(module(name), '', {})]
  sweep = SweepPlan({}, {}, baseline=module(name).BASELINE)
  assert {sweep.baseline_of(entry) for entry in entries} <= set(entries)


def test_table_6_has_every_set_of_candidates():
  table = module('table6_candidates')
  entries = sweep_entries(table, '', {})
  for entry, config in entries.items():
    letters = without_seed(entry).removeprefix('candidates=')
    modes = config.mix.candidates
    assert config.mix.weights == (1.0,) * len(modes)
    if letters == 'none':
      assert modes == ('identity',)
    else:
      assert ''.join(mode[0].upper() for mode in modes) == letters
  sets = {frozenset(config.mix.candidates) for config in entries.values()}
  assert len(sets) == 2**4
  pairs = [v['clean/top1'] for k, v in table.PAPER.items() if len(k) == 13]
  assert round(100 * sum(pairs) / 5, 2) == 67.97  # as the paper prints it


@pytest.mark.parametrize(
  'name, count', [('coco_m3l', 12), ('flickr8k_m3l', 57), ('multi30k_m3l', 6)]
)
def test_sweeps_of_retrieval(name, count):
  assert len(sweep_entries(module(name), '', {'data.dir': 'x'})) == count
