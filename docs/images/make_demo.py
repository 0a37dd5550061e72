"""Draws docs/images/demo.png from the output folder of `macebench demo`. Usage: make_demo.py macebench-demo"""

import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

from macebench.media import Decoder
from macebench.results import RunResult
from macebench.skeleton import COCO17_EDGES

mpl.use("Agg")
import matplotlib.pyplot as plt

N_FRAMES, SIZE = 6, 512
COLUMNS = {"fid_k": "FID_k (log scale), lower is better", "bas_corrected": "beat alignment above chance"}


def overlay(folder: Path) -> np.ndarray:
    """A frame of each of several clips side by side, with the estimated skeleton."""
    tiles = []
    with Decoder() as decoder:
        tracks = {path: np.load(path, allow_pickle=False) for path in sorted((folder / "run" / "poses").glob("*.npz"))}
        dances = [path for path, track in tracks.items() if int(track["height"]) == SIZE]
        for place, poses in enumerate(dances[:N_FRAMES]):
            track = tracks[poses]
            video = folder / "dataset" / "clips" / "train" / f"{poses.stem}.mp4"
            frames = np.concatenate([batch.frames for batch in decoder.frames(video)])
            index = 20 + 19 * place
            picture, points = frames[index].copy(), track["keypoints"][index]
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
    result = RunResult.read(folder / "run")
    names = [entry.model.name for entry in result.entries][::-1]
    figure = plt.figure(figsize=(12, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.15, 1])
    top = figure.add_subplot(grid[0, :])
    top.imshow(overlay(folder))
    top.axis("off")
    for place, (column, title) in enumerate(COLUMNS.items()):
        axis = figure.add_subplot(grid[1, place])
        values = [entry.score(column).value or 0.0 for entry in result.entries][::-1]
        colours = ["#2f5fd0" if name == "ground-truth" else "#a9b1bf" for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, fmt="%.3g", padding=3)
        if column == "fid_k":
            axis.set_xscale("log")
            axis.set_xlim(left=min(values) / 2)
        axis.axvline(0, color="#444", linewidth=0.8)
        axis.margins(x=0.18)
        axis.set_title(title, fontsize=11)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False, left=False)
    figure.savefig(Path(__file__).parent / "demo.png", dpi=90)


if __name__ == "__main__":
    main()
