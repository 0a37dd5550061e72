"""Draws docs/images/demo.png from the output folder of `macebench demo`. Usage: make_demo.py macebench-demo"""

import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

from macebench.media import Decoder
from macebench.report.numbers import short
from macebench.results import RunResult
from macebench.skeleton import COCO17_EDGES

mpl.use("Agg")
import matplotlib.pyplot as plt

N_CLIPS, SIZE = 3, 512
COLOURS = {"ground-truth": "#2f5fd0", "mace-dance": "#e63c78"}
COLUMNS = {"fid_k": "FID_k (log scale), lower is better", "bas_corrected": "beat alignment above chance"}


def overlay(poses: Path, videos: Path) -> np.ndarray:
    """A frame of each of several clips side by side, with the estimated skeleton."""
    tiles = []
    with Decoder() as decoder:
        tracks = {path: np.load(path, allow_pickle=False) for path in sorted(poses.glob("*.npz"))}
        dances = [path for path, track in tracks.items() if (videos / f"{path.stem}.mp4").is_file()]
        dances = [path for path in dances if int(tracks[path]["height"]) == SIZE]
        for place, path in enumerate(dances[:N_CLIPS]):
            frames = np.concatenate([batch.frames for batch in decoder.frames(videos / f"{path.stem}.mp4")])
            index = 20 + 19 * place
            picture, points = frames[index].copy(), tracks[path]["keypoints"][index]
            for a, b in COCO17_EDGES:
                if np.isfinite(points[[a, b]]).all():
                    one, two = (tuple(points[i].round().astype(int).tolist()) for i in (a, b))
                    cv2.line(picture, one, two, (255, 255, 255), 5, cv2.LINE_AA)
                    cv2.line(picture, one, two, (230, 60, 120), 3, cv2.LINE_AA)
            tiles.append(picture[20:490, 76:436])
    return np.concatenate(tiles, axis=1)


def main() -> None:
    """Draw and save."""
    folder = Path(sys.argv[1])
    result = RunResult.read(folder / "run").with_rows_of(RunResult.read(folder / "run-mace-dance"))
    names = [entry.model.name for entry in result.entries][::-1]
    figure = plt.figure(figsize=(12, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.15, 1])
    made = folder / "run-mace-dance"
    for place, (title, poses, videos) in enumerate((
        ("clips of the data set", folder / "run" / "poses", folder / "dataset" / "clips" / "train"),
        ("danced by mace-dance", made / "poses", made / "generated"),
    )):  # fmt: skip
        top = figure.add_subplot(grid[0, place])
        top.imshow(overlay(poses, videos))
        top.set_title(title, fontsize=11)
        top.axis("off")
    for place, (column, title) in enumerate(COLUMNS.items()):
        axis = figure.add_subplot(grid[1, place])
        values = [entry.score(column).value or 0.0 for entry in result.entries][::-1]
        colours = [COLOURS.get(name, "#a9b1bf") for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, labels=[short(value) for value in values], padding=3)
        if column == "fid_k":
            axis.set_xscale("log")
            axis.minorticks_off()
            axis.set_xlim(left=min(values) / 2)
        axis.axvline(0, color="#444", linewidth=0.8)
        axis.margins(x=0.18)
        axis.set_title(title, fontsize=11)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False, left=False)
    figure.savefig(Path(__file__).parent / "demo.png", dpi=90)


if __name__ == "__main__":
    main()
