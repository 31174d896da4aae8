import ast
import functools
import importlib
import pathlib
import re
import sys

import jax
import pytest
from absl import flags
from ml_collections import config_flags

from configs import common
from jaxmix.classification import mixing, models, schema, task
from jaxmix.classification.datasets import splits
from jaxretrieval.training import objective
from jaxretrieval.training import text_head as retrieval_models
from launch.config import check_config, flatten
from launch.mesh import make_mesh
from launch.report.sweep_plan import Sweep, without_seed
from launch.sweep.entries import sweep_rows
from launch.train.schedule import StepSchedule

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'configs'
NAMES = sorted(
  path.stem
  for path in FOLDER.glob('*.py')
  if path.stem not in ('__init__', 'common')
)
TABLES = {
  'table1_cifar': 200,
  'table2_imagenet': 100,
  'table2_tiny_imagenet': 200,
  'table3_speech': 300,
  'table4_robustness': 200,
  'table5_weights': 200,
}  # and their epochs
CANDIDATES = 'table6_candidates'  # has those, where others have a method
PAPER = {
  'cifar10_preact': (1, 1, 1, 1),
  'cifar10_wrn': (3, 1, 1, 1),
  'cifar100_preact': (1, 1, 1, 1),
  'cifar100_wrn': (3, 1, 1, 1),
}

# How ml_collections imports a config.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')

RETRIEVAL = {
  'coco_m3l': ('loss=m3l', 'loss=patr', 'text=laser'),
  'flickr8k_m3l': ('paper', 'loss=patr,miner=random', 'loss=triplet'),
  'multi30k_m3l': ('train=en,de,fr', 'train=de,smoke', 'loss=log_m3l'),
  'retrieval_quickstart': ('loss=m3l',),
}
MIXED = sorted(set(NAMES) - set(RETRIEVAL) - {CANDIDATES})

every_config = pytest.mark.parametrize('name', MIXED)
every_file = pytest.mark.parametrize('name', NAMES)
every_method = pytest.mark.parametrize('method', common.METHODS)
every_paper = pytest.mark.parametrize('name', PAPER)


def module(name):
  return importlib.import_module(f'configs.{name}')


def test_no_recipe_is_missing():
  others = {'imagenet_resnet50', 'quickstart', 'tiny_imagenet_preact'}
  assert {*PAPER, *RETRIEVAL, *TABLES, CANDIDATES, *others} == set(NAMES)


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
def test_configs_import_nothing_heavy(name):
  tree = ast.parse((FOLDER / f'{name}.py').read_text())
  imported = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      imported |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      imported.add(node.module)
  tables = {f'configs.{name}' for name in NAMES}
  assert imported <= {'ml_collections', 'configs.common', 'typing'} | tables


@every_config
def test_the_header_tells_how_to_run_it(name):
  header = module(name).__doc__ or ''
  command = 'python -m launch.main --config=configs/([a-z0-9_]+).py'
  assert set(re.findall(command, header)) == {name}
  assert ':method=' in header and ':smoke' in header
  for method in common.METHODS:
    assert re.search(rf'\b{method}\b', header), f'{method} is not offered'


def kind_of(method):
  """The kind of mixing that a method is."""
  if method.startswith('patchup_'):
    return 'patchup'
  return method if method in mixing.KINDS else 'random_mix'


@every_config
@every_method
def test_every_method_of_every_config_is_whole(name, method):
  config = module(name).get_config(f'method={method}')
  check_config(config)
  expected = {
    'random_mix': ('mixup', 'cutmix', 'resizemix', 'fmix'),
    'none': ('identity',),
    'cutout': ('identity',),
  }.get(method, (method,))
  schema.check(config)
  kind = config.mix.name
  assert kind == kind_of(method)
  if kind == 'random_mix':
    assert config.mix.candidates == expected
  info = splits.dataset_spec(config.data)
  model = models.create(config.model, info.num_classes)
  mesh = make_mesh(jax.devices()[:1])
  states = functools.partial(models.states, model, info.image_shape)
  place = mixing.MixContext(
    config.batch_size,
    info.image_shape,
    info.num_classes,
    mesh,
    lambda x: x,
    states,
  )
  mixing.make(config.mix, place)


@every_config
@every_method
def test_methods_differ_in_nothing_but_the_mix(name, method):
  usual = flatten(module(name).get_config())
  other = flatten(module(name).get_config(f'method={method}'))
  same_kind = kind_of(method) == 'random_mix'
  if same_kind:
    assert usual.keys() == other.keys(), 'a method lacks fields of another'
  changed = {f for f in usual | other if usual.get(f) != other.get(f)}
  own = {f for f in changed if f.startswith('mix.')}
  assert changed - own <= {'augment.cutout'}
  assert not same_kind or own <= {'mix.candidates', 'mix.weights'}
  assert bool(changed) == (method != 'random_mix')


@every_paper
def test_recipes_are_those_of_the_paper(name):
  config = module(name).get_config()
  assert config.epochs == 200 and config.batch_size == 256
  assert config.optimizer.to_dict() == {
    'name': 'sgd',
    'lr': 0.1,
    'schedule': 'cosine',
    'warmup_epochs': 0,
    'momentum': 0.9,
    'nesterov': False,
    'weight_decay': 5e-4,
  }
  assert config.augment.to_dict() == {'pad': 4, 'flip': True, 'cutout': 0}
  assert config.mix.weights == PAPER[name]
  assert set(config.mix.alpha.to_dict().values()) == {1}
  assert config.mix.scale == (0.1, 0.8)
  assert config.label_smoothing == 0
  assert not config.data.train_examples and not config.data.test_examples
  data_name, family = name.split('_')
  assert config.data.name == data_name
  expected = {
    'wrn': {'name': 'wide_resnet', 'depth': 28, 'width': 10},
    'preact': {'name': 'preact_resnet18', 'width': 64},
  }[family]
  usual = {'stem_stride': 1, 'dtype': 'bfloat16'}
  assert config.model.to_dict() == expected | usual


def test_the_recipe_of_imagenet_is_that_of_the_paper():
  config = module('imagenet_resnet50').get_config()
  assert config.epochs == 100 and config.batch_size == 256 * 8
  assert config.optimizer.to_dict() == {
    'name': 'sgd',
    'lr': 0.8,
    'schedule': 'cosine',
    'warmup_epochs': 0,
    'momentum': 0.9,
    'nesterov': False,
    'weight_decay': 4e-5,
  }
  assert config.mix.weights == (3, 1, 1, 1)
  assert set(config.mix.alpha.to_dict().values()) == {0.2}
  assert config.augment.flip and config.data.feed == 'streamed'
  described = splits.dataset_spec(config.data)
  assert described.image_shape == (224, 224, 3)
  assert described.num_classes == 1000
  assert described.train_examples == 1_281_167
  assert 'random_mix 77.88 93.98' in (module('imagenet_resnet50').__doc__ or '')


def test_the_recipe_of_tiny_imagenet_is_that_of_the_paper():
  config = module('tiny_imagenet_preact').get_config()
  usual = flatten(module('cifar100_preact').get_config())
  ours = flatten(config)
  changed = {field for field in usual if usual[field] != ours[field]}
  assert changed == {'data.name', 'model.stem_stride'}
  assert config.model.stem_stride == 2
  described = splits.dataset_spec(config.data)
  assert described.image_shape == (64, 64, 3)
  assert described.num_classes == 200
  assert described.train_examples == 100_000
  header = module('tiny_imagenet_preact').__doc__ or ''
  assert 'random_mix 68.94 86.83' in header


@pytest.mark.parametrize(
  'recipe', ['tiny_imagenet_preact', 'imagenet_resnet50']
)
def test_table_2_is_that_of_its_recipes(recipe):
  name = f'table2_{recipe.rpartition("_")[0]}'
  table, header = module(name), module(recipe).__doc__ or ''
  for method in common.METHODS:
    arg = f'method={method}'
    assert table.get_config(arg) == module(recipe).get_config(arg)
  assert len(table.PAPER) >= 6
  for row, numbers in table.PAPER.items():
    top1, top5 = 100 * numbers['clean/top1'], 100 * numbers['clean/top5']
    line = f'{row.removeprefix("method=")} {top1:.2f} {top5:.2f}'
    assert line in header.replace('\n', ' ')


def test_table_6_has_every_set_of_candidates():
  table = module(CANDIDATES)
  rows = sweep_rows(table, '', {})
  assert len(rows) == 3 * 2**4
  modes = ['mixup', 'cutmix', 'resizemix', 'fmix']
  sets = {frozenset(c.mix.candidates) for c in rows.values()}
  expected = {
    frozenset(m for i, m in enumerate(modes) if bits >> i & 1)
    for bits in range(1, 2**4)
  }
  assert sets == expected | {frozenset({'identity'})}
  usual = flatten(module('tiny_imagenet_preact').get_config())
  for row, config in rows.items():
    check_config(config)
    fields = flatten(config)
    changed = {field for field in usual if usual[field] != fields[field]}
    assert changed <= {'mix.candidates', 'mix.weights', 'seed'}
    count = len(config.mix.candidates)
    assert config.mix.weights == (1.0,) * count
    name = row.rpartition(',')[0].partition('=')[2]
    letters = {'identity': ''}.get(config.mix.candidates[0], name)
    assert count == (len(letters) or 1)
    assert [mode[0].upper() for mode in config.mix.candidates] == [
      *letters
    ] or (name == 'none')
  lacking = {row.rpartition(',')[0] for row in rows} - set(table.PAPER)
  assert lacking == {'candidates=RF'}
  pairs = [v['clean/top1'] for k, v in table.PAPER.items() if len(k) == 13]
  assert round(100 * sum(pairs) / 5, 2) == 67.97  # printed beside them


@pytest.mark.parametrize('arg', ['small', 'smoke', 'small,smoke'])
def test_table_6_in_small(arg):
  table = module(CANDIDATES)
  for config in sweep_rows(table, arg, {}).values():
    info = splits.dataset_spec(config.data)
    small = 'small' in arg
    assert info.name == ('cifar100' if small else 'tiny_imagenet')
    assert config.model.width == 8
    assert config.model.stem_stride == (1 if small else 2)
    plan = StepSchedule(
      config.epochs,
      info.train_examples,
      config.batch_size,
      config.steps_per_dispatch,
    )
    assert plan.total_steps == (2344 if arg == 'small' else 4)
  small = module('table4_robustness').get_config('small')
  ours = table.get_config('small')
  for field in 'model', 'data', 'optimizer', 'epochs', 'batch_size', 'augment':
    assert ours[field] == small[field]
  assert table.get_config().mix.candidates == ours.mix.candidates
  with pytest.raises(
    ValueError, match='candidates=FM: must be candidates=MCRF'
  ):
    table.get_config('candidates=FM')


@every_paper
def test_headers_state_weights_and_numbers(name):
  weights = ', '.join(map(str, PAPER[name]))
  header = module(name).__doc__ or ''
  assert f'[{weights}]' in header.splitlines()[0]
  best = {
    'cifar10_preact': '97.22',
    'cifar10_wrn': '98.02',
    'cifar100_preact': '82.14',
    'cifar100_wrn': '84.84',
  }[name]
  assert f'random_mix {best}' in header


@every_config
def test_smoke_is_small_but_the_real_network(name):
  config, smoke = module(name).get_config(), module(name).get_config('smoke')
  check_config(smoke)
  plan = StepSchedule(
    smoke.epochs,
    splits.dataset_spec(smoke.data).train_examples,
    smoke.batch_size,
    smoke.steps_per_dispatch,
  )
  assert plan.total_steps == 4 and smoke.batch_size == 16
  assert splits.dataset_spec(smoke.data).test_examples <= 100
  assert smoke.mix == config.mix
  assert smoke.optimizer.lr <= 0.1, 'small batches diverge at more'
  # Tables have many rows: their networks are narrow.
  assert smoke.model == config.model or name in TABLES


@pytest.mark.parametrize('name', sorted(TABLES))
def test_a_table_has_the_rows_of_the_paper(name):
  rows = sweep_rows(module(name), '', {})
  smoke = sweep_rows(module(name), 'smoke', {})
  assert list(smoke) == [row for row in rows if row.endswith('seed=0')]
  paper = module(name).PAPER
  assert list(rows) == [f'{r},seed={s}' for r in paper for s in range(3)]
  for row, config in rows.items():
    assert config.seed == int(row[-1]) and config.epochs == TABLES[name]
    metrics = set(paper[row[:-7]]) - {'cost'}
    evaluated = {metric.partition('/')[0] for metric in metrics}
    assert evaluated == set(config.evals), 'a column cannot be filled'
  for metrics in paper.values():
    assert all(0 < x < 1 or name == 'cost' for name, x in metrics.items())


@pytest.mark.parametrize('name', [*TABLES, CANDIDATES, 'quickstart'])
def test_each_row_has_a_baseline_to_be_timed_beside(name):
  rows = [without_seed(row) for row in sweep_rows(module(name), '', {})]
  sweep = Sweep({}, {}, baseline=getattr(module(name), 'BASELINE', ''))
  found = {sweep.baseline_of(row) for row in rows}
  # The rows of table 5 are of one method; nothing there is without mixing.
  assert found == {''} if name == 'table5_weights' else found <= set(rows)


@every_config
@pytest.mark.parametrize(
  'arg, message',
  [
    ('smok', "'smok'.*smoke, method=random_mix|"),
    ('smoke,width=3', "'width=3'"),
    ('method=blur', 'method=blur.*cutmix'),
    ('method', 'method='),
    ('smoke,smoke', "'smoke' is given twice"),
  ],
)
def test_an_unknown_argument_is_named(name, arg, message):
  with pytest.raises(ValueError, match=message):
    module(name).get_config(arg)


@every_config
def test_flags_override_and_the_argument_selects(parse, name):
  config = parse(name, 'smoke,method=cutmix', **{'optimizer.lr': 0.05})
  assert config.is_locked
  assert config.optimizer.lr == 0.05
  assert config.batch_size == 16 and config.mix.candidates == ('cutmix',)


@every_config
@pytest.mark.parametrize('field', ['optimizer.lrr', 'epoch', 'mix.alpha.mixu'])
def test_a_flag_with_a_typing_error_is_refused(parse, name, field):
  with pytest.raises((AttributeError, KeyError), match=field.split('.')[-1]):
    parse(name, **{field: '1'})


@every_file
def test_a_locked_config_takes_no_new_fields(parse, name):
  config = parse(name)
  with pytest.raises((AttributeError, KeyError), match='lrr'):
    config.optimizer.lrr = 1


@pytest.mark.parametrize('name', RETRIEVAL)
def test_a_retrieval_config_is_whole(name):
  header = module(name).__doc__ or ''
  assert f'configs/{name}.py' in header or 'make retrieval' in header
  usual = flatten(module(name).get_config())
  for arg in (None, 'smoke', *RETRIEVAL[name]):
    config = module(name).get_config(arg).lock()
    check_config(config)
    assert config.task == 'jaxretrieval.task'
    objective.make_loss_fn(config.loss)
    objective.make_mining(config.mining, make_mesh(jax.devices()[:1]))
    head = retrieval_models.create(config.model, 32)
    assert head.dims[-1] == 32
    fields = flatten(config)
    loss = {f for f in fields | usual if f.startswith('loss.')}
    assert fields.keys() - loss == usual.keys() - loss
    if arg == 'smoke':
      plan = StepSchedule(
        config.epochs, config.data.train_images, config.batch_size, 2
      )
      assert plan.total_steps == 4


def test_table_2_is_the_recipe_of_the_paper():
  config = module('coco_m3l').get_config()
  assert config.model.hidden == (1024, 2048)
  assert config.model.dropout == (0.2, 0.1, 0.0)
  assert config.loss.to_dict() == {
    'name': 'm3l',
    'objective': 'ratio',
    'rho': 4,
    'alpha1': 0.5,
    'alpha2': 1.0,
  }
  assert config.optimizer.b1 == 0.99 and config.optimizer.lr == 1e-3
  assert config.batch_size == 128 and config.mining.miner == 'hardest'
  assert config.data.languages == ('en',)
  assert len(config.evals.xtd10.languages) == 11
  assert config.data.on_overlap == 'drop', 'XTD10 shares 800 images'


def test_languages_follow_in_the_argument():
  config = module('multi30k_m3l').get_config('train=en,de,fr,smoke')
  assert config.data.languages == ('en', 'de', 'fr')
  assert config.data.train_images == 64, 'smoke was taken for a language'


@pytest.mark.parametrize('name', ['coco_m3l', 'flickr8k_m3l', 'multi30k_m3l'])
def test_sweeps_of_retrieval_can_be_run(name):
  rows = sweep_rows(module(name), '', {'data.dir': 'x'})
  assert len(rows) == {'coco_m3l': 12, 'flickr8k_m3l': 57}.get(name, 6)


def test_the_quickstart_stays_small():
  config = module('quickstart').get_config()
  params, _ = jax.eval_shape(
    lambda key: task.init(config, key), jax.random.key(0)
  )
  count = sum(x.size for x in jax.tree.leaves(params))
  assert count < 100_000, 'it is meant for two CPU cores'


def test_the_sweep_of_the_quickstart_can_be_run():
  rows = []
  module('quickstart').sweep(
    lambda arg=None, **fields: rows.append((arg, fields)), ''
  )
  assert len(rows) == len(set(map(str, rows))) == 6
  for arg, changes in rows:
    config = module('quickstart').get_config(arg).lock()
    config.update_from_flattened_dict(changes)
    check_config(config)
