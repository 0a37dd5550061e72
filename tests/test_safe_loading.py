"""An AST test: no unsafe loading, no shell, no bare folder names, no heavy import at module level in the core."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("macebench", "baselines", "curation", "leaderboards", "metrics", "models")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
BANNED_MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "torchvision", "timm"}
BANNED_CALLS = {"eval", "exec", "os.system", "os.popen", "torch.hub.load", "yaml.load", "yaml.unsafe_load"}
HEAVY = {"torch", "cv2", "librosa", "transformers", "diffusers", "av", "pandas", "pyarrow", "matplotlib", "mannequin"}
FOLDER_NAMES = {"metrics", "models", "curation", "baselines", "leaderboards"}


def dotted(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


def problems(source):
    """What is wrong with a piece of source; the rules of this test."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            tops = {name.split(".")[0] for name in names}
            found += [f"line {node.lineno}: import of {top}" for top in sorted(tops & (BANNED_MODULES | FOLDER_NAMES))]
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        words = {word.arg: word.value for word in node.keywords}
        if name in BANNED_CALLS:
            found.append(f"line {node.lineno}: call of {name}")
        if name == "torch.load" and getattr(words.get("weights_only"), "value", None) is not True:
            found.append(f"line {node.lineno}: torch.load without weights_only=True")
        for word in ("allow_pickle", "shell", "trust_remote_code"):
            value = words.get(word)
            if value is not None and getattr(value, "value", None) is not False:
                found.append(f"line {node.lineno}: {word} is not False")
        if name in ("np.load", "numpy.load") and "allow_pickle" not in words:
            found.append(f"line {node.lineno}: {name} without allow_pickle=False")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_unsafe_loading(file):
    assert problems(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from metrics import frechet",
        "import torch\ntorch.load('x')",
        "torch.load('x', weights_only=False)",
        "import numpy as np\nnp.load('x')",
        "np.load('x', allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "yaml.load('x')",
        "M.from_pretrained('x', trust_remote_code=True)",
    ],
)
def test_the_rules_find_what_they_are_for(source):
    assert problems(source)


@pytest.mark.parametrize("file", [f for f in FILES if f.parts[-2] in ("macebench", "cli")], ids=lambda f: f.name)
def test_the_core_imports_nothing_heavy_at_module_level(file):
    tree = ast.parse(file.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            heavy = {name.split(".")[0] for name in names} & HEAVY
            assert not heavy, f"{file.name}:{node.lineno} imports {heavy} at module level"
