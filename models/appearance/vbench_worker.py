"""Runs inside the user's vbench interpreter: ``<python> vbench_worker.py <job folder>``. Imports nothing of macebench.

Reads ``job.json``: ``device`` (``cpu``, ``cuda`` or ``auto``), ``videos`` (paths of mp4 files) and ``dimensions``.
Without videos it only says what is there. Writes ``result.json``, anew after every dimension:

- ``about``: ``version`` of vbench, ``torch``, ``device``, and ``weights``: SHA-256 by file below the cache folder
  (``VBENCH_CACHE_DIR``, else ``~/.cache/vbench``); the hashes only without videos.
- ``values``: by dimension and video, VBench's ``video_results``.
- ``failures``: by dimension and video, why there is no value: ``missing: <file>`` or an error.
- ``pairs``: frame pairs by video, as VBench's background consistency counted them.

A dimension whose weights are not there is not computed, so that nothing is downloaded. When VBench fails on a
dimension, it is asked again for each video alone. Two things are put in VBench's way, without touching its numbers: the
operators of torchvision that a torch for CPUs cannot load are declared (VBench calls none of them), and torch.hub takes
DINO's weights from the cache folder.

Exit status 3: vbench cannot be imported here.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

NO_VBENCH = 3
WEIGHTS = {
    "imaging_quality": ("pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",),
    "aesthetic_quality": ("clip_model/ViT-L-14.pt", "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"),
    "subject_consistency": (
        "dino_model/dino_vitbase16_pretrain.pth",
        "dino_model/facebookresearch_dino_main/hubconf.py",
    ),
    "background_consistency": ("clip_model/ViT-B-32.pt",),
    "motion_smoothness": ("amt_model/amt-s.pth",),
    "temporal_flickering": (),
}


def cache() -> Path:
    """VBench's cache folder."""
    given = os.environ.get("VBENCH_CACHE_DIR")
    return Path(given) if given else Path.home() / ".cache" / "vbench"


def declare_operators(torch: Any) -> Any:
    """Declare the operators that torchvision wants to register results for; its own library may not load here."""
    found = importlib.util.find_spec("torchvision")
    source = Path(found.origin or "").parent / "_meta_registrations.py" if found is not None else None
    if source is None or not source.is_file():
        return None
    try:
        torch.ops.load_library(next(source.parent.glob("_C*.so")))
        return None  # it loads: nothing is missing
    except (OSError, RuntimeError, StopIteration):
        library = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(set(re.findall(r"register_fake\(\"torchvision::(\w+)\"\)", source.read_text("utf-8")))):
        library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
    return library


def use_local_hub(torch: Any) -> None:
    """Let torch.hub take weights from the cache folder where they are there."""
    download = torch.hub.load_state_dict_from_url

    def local(url: str, *args: Any, **kwargs: Any) -> Any:
        path = cache() / "dino_model" / Path(url).name
        if path.is_file():
            return torch.load(path, map_location="cpu", weights_only=True)
        return download(url, *args, **kwargs)

    torch.hub.load_state_dict_from_url = local


def version() -> str:
    """Version of vbench, or ``unknown``."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("vbench")
    except PackageNotFoundError:
        return "unknown"


def weights() -> dict[str, str]:
    """SHA-256 of the files of the cache folder that are there."""
    found = {}
    for name in sorted(name for names in WEIGHTS.values() for name in names):
        if (cache() / name).is_file():
            with (cache() / name).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def compute(folder: Path, dimension: str, videos: list[str], device: str) -> dict[str, Any]:
    """VBench's ``video_results`` of some videos."""
    from vbench.utils import init_submodules  # type: ignore[import-not-found]

    listing = folder / f"{dimension}_full_info.json"
    rows = [{"prompt_en": "", "dimension": [dimension], "video_list": [video]} for video in videos]
    listing.write_text(json.dumps(rows), "utf-8")
    parts = init_submodules([dimension], local=True, read_frame=False)[dimension]
    module = importlib.import_module(f"vbench.{dimension}")
    _, results = getattr(module, f"compute_{dimension}")(str(listing), device, parts)
    return {row["video_path"]: row for row in results}


def attempt(folder: Path, dimension: str, videos: list[str], device: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Results and failures by video; when VBench fails on several, each is tried alone."""
    absent = [name for name in WEIGHTS[dimension] if not (cache() / name).is_file()]
    if absent:
        return {}, {video: f"missing: {cache() / absent[0]}" for video in videos}
    try:
        rows = compute(folder, dimension, videos, device)
    except Exception as error:  # noqa: BLE001 - foreign code; the reason is written down
        sys.stderr.write(f"{dimension}: {type(error).__name__}: {error}\n")
        if len(videos) == 1:
            return {}, {videos[0]: f"{type(error).__name__}: {error}"[:500]}
        results, failures = {}, {}
        for video in videos:
            one, lost = attempt(folder, dimension, [video], device)
            results.update(one)
            failures.update(lost)
        return results, failures
    return rows, {video: "no result" for video in videos if video not in rows}


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write the result in one step."""
    temporary = folder / "result.tmp"
    temporary.write_text(json.dumps(result), "utf-8")
    temporary.replace(folder / "result.json")


def main(folder: Path) -> int:
    """Run one job; the exit status comes back."""
    job = json.loads((folder / "job.json").read_text("utf-8"))
    here = Path(__file__).resolve().parent
    sys.path[:] = [item for item in sys.path if Path(item).resolve() != here]
    try:
        import torch

        library = declare_operators(torch)  # noqa: F841 - it lives as long as the name
        importlib.import_module("vbench.utils")
    except (ImportError, RuntimeError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return NO_VBENCH
    use_local_hub(torch)
    device = job["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    about = {"version": version(), "torch": str(torch.__version__), "device": device}
    result = {"about": about, "values": {}, "failures": {}, "pairs": {}}
    videos = job["videos"]
    if not videos:
        about["weights"] = weights()
    for dimension in job["dimensions"] if videos else ():
        rows, failures = attempt(folder, dimension, videos, device)
        result["values"][dimension] = {video: float(row["video_results"]) for video, row in rows.items()}
        result["failures"][dimension] = failures
        result["pairs"].update({video: row["cnt_per_video"] for video, row in rows.items() if "cnt_per_video" in row})
        write(folder, result)
    write(folder, result)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
