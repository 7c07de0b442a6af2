"""The shapes that the signatures state are the shapes that go in and come out."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError, jaxtyped

import attn_tutorial
from package.conformance import CHECKS, package_api


def test_every_check_passes_with_shapes_checked_at_run_time():
    """The same checks, every public function wrapped by jaxtyping and beartype."""
    api = package_api()
    for name, function in vars(api).items():
        setattr(api, name, jaxtyped(typechecker=beartype)(function))
    skipped = {"the_score_is_used"}  # its own score says nothing of shapes
    for check in CHECKS:
        if check.__name__ not in skipped:
            check(api)


@pytest.mark.parametrize("zeros", [np.zeros, torch.zeros])
def test_a_wrong_shape_would_be_noticed(zeros):
    @jaxtyped(typechecker=beartype)
    def transposed(
        query: Float[object, "n_q d"], key: Float[object, "n_k d"]
    ) -> Float[object, "n_q n_k"]:
        return (query @ key.T).T

    with pytest.raises(TypeCheckError):
        transposed(zeros((2, 4)), zeros((3, 4)))


def test_importing_the_package_does_not_import_torch():
    program = "import sys, attn_tutorial; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_attention_over_numpy_does_not_import_torch():
    program = (
        "import sys, numpy as np, attn_tutorial as at; x = np.eye(3); "
        "at.attention(x, x, x, mask=at.causal_mask(3, 3) & at.padding_mask([2], 3)); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_public_functions_say_what_they_take_and_return():
    """Parameters and results, errors where they may occur, and a source where there is one."""
    without_source = {"apply_mask", "padding_mask", "ranks"}
    for name in attn_tutorial.__all__:
        text = getattr(attn_tutorial, name).__doc__
        assert "Parameters\n" in text, name
        assert "Returns\n" in text, name
        assert ("References\n" in text) or name in without_source, name


def test_the_public_names_are_listed():
    """The modules of the first floor define what the package lists, and nothing else."""
    package = Path(attn_tutorial.__file__).parent
    defined = set()
    for module in ("core", "masks", "scores"):
        for node in ast.parse((package / f"{module}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                defined.add(node.name)
    assert defined == set(attn_tutorial.__all__)
