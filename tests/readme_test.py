"""The code and the names in README.md and CONTRIBUTING.md are up to date."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()
PAGES = {
  name: (ROOT / name).read_text()
  for name in (
    'README.md',
    'CONTRIBUTING.md',
    'benchmarks/README.md',
    *(f'docs/{path.name}' for path in sorted((ROOT / 'docs').glob('*.md'))),
  )
}
ROOMS = '|'.join(
  ('jaxmix', 'jaxretrieval', 'launch', 'configs', 'benchmarks', 'tests')
)


@pytest.mark.slow
def test_examples_run_with_jax_alone():
  blocks = re.findall(r'```python\n(.*?)```', README, re.S)
  assert blocks
  code = '\n'.join(blocks) + (
    '\nimport sys\n'
    "assert not {'flax', 'optax', 'grain'} & set(sys.modules)\n"
    'assert masks.shape == (8, 32, 32, 1) and float(loss) > 0\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines == ['(8, 32, 32, 3) (8, 10)', '131.820 0.75 1.0']
  assert all(f'# {line}' in README for line in lines)


@pytest.mark.parametrize('page', PAGES)
def test_named_files_exist(page):
  # Not what follows a slash: a path outside of this repository.
  named = re.findall(rf'(?<![\w/~-])(?:{ROOMS})/[\w/*]+(?:\.\w+)?', PAGES[page])
  missing = [name for name in named if not list(ROOT.glob(name))]
  assert not missing, f'{page} names files that do not exist'


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)]+)\)', PAGES[page]):
    if link.startswith('http'):
      continue
    name, _, anchor = link.partition('#')
    path = (ROOT / page).parent / name if name else ROOT / page
    assert path.exists(), f'{page} links to {link}'
    if anchor:
      titles = re.findall(r'^#+ (.*)$', path.read_text(), re.M)
      slugs = [re.sub(r'[^\w -]', '', x.lower()) for x in titles]
      assert anchor in [slug.replace(' ', '-') for slug in slugs], link


@pytest.mark.parametrize('page', PAGES)
def test_commands_name_modules(page):
  for module in re.findall(r'python -m ([\w.]+)', PAGES[page]):
    path = ROOT.joinpath(*module.split('.'))
    found = path.with_suffix('.py').exists() or (path / '__main__.py').exists()
    assert found or module == 'pytest', f'{page} names {module}'


def test_make_targets_exist():
  targets = set(
    re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
  )
  for page in PAGES:
    named = re.findall(r'^    make ([\w-]+)', PAGES[page], re.M)
    assert set(named) <= targets, page
