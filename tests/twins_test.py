"""What both packages need and neither may import from the other: equal code.

Two short copies are cheaper than a third package; that they stay copies is
held here.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TWINS = {
  'rules.py': ('Rule', 'whole', 'number', 'several'),
  'fields.py': ('_value', '_block'),
  'inputs.py': ('_no_number', 'check_features'),
}

HERE = {
  'inputs.py': 'datasets/inputs.py'
}  # where it is not under the same name


def definitions(path):
  body = ast.parse((ROOT / path).read_text()).body
  kinds = ast.FunctionDef | ast.ClassDef
  return {x.name: ast.unparse(x) for x in body if isinstance(x, kinds)}


@pytest.mark.parametrize('file', TWINS)
def test_twins_are_equal(file):
  one = definitions(f'jaxmix/classification/{HERE.get(file, file)}')
  other = definitions(f'jaxretrieval/{file}')
  for name in TWINS[file]:
    assert one[name] == other[name], f'{name} was changed in one package only'
