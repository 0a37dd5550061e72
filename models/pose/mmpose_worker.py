"""Runs inside the user's mmpose interpreter: ``<python> mmpose_worker.py <job folder>``. Imports nothing of macebench.

Reads ``job.json`` (``video``, ``config``, ``checkpoint``, ``device``) and writes ``result.npz``: for each of N persons
over all frames ``frame`` (N,), ``box`` (N, 4), ``score`` (N,), ``keypoints`` (N, 17, 2) pixels and ``confidence``
(N, 17); and ``n_frames`` and ``size`` (width, height).

Exit status 3: mmpose cannot be imported here.
"""

import json
import sys
from pathlib import Path

NO_MMPOSE = 3


def main(folder: Path) -> int:
    """Run one job; the exit status comes back."""
    job = json.loads((folder / "job.json").read_text("utf-8"))
    here = Path(__file__).resolve().parent  # holds a file mmpose.py, which must not hide the package
    sys.path[:] = [item for item in sys.path if Path(item).resolve() != here]
    try:
        import cv2
        import numpy as np
        from mmpose.apis import MMPoseInferencer  # type: ignore[import-not-found]
    except ImportError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return NO_MMPOSE
    inferencer = MMPoseInferencer(pose2d=job["config"], pose2d_weights=job["checkpoint"] or None, device=job["device"])
    capture = cv2.VideoCapture(job["video"])
    rows, size, n_frames = [], (0, 0), 0
    while True:
        there, picture = capture.read()
        if not there:
            break
        size = (picture.shape[1], picture.shape[0])
        result = next(inferencer(picture, return_vis=False))
        for person in result["predictions"][0]:
            box = np.ravel(person["bbox"])[:4]
            row = (n_frames, box, person["bbox_score"], person["keypoints"], person["keypoint_scores"])
            rows.append(row)
        n_frames += 1
    np.savez(
        folder / "result.npz",
        frame=np.array([row[0] for row in rows], dtype=np.int64),
        box=np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4),
        score=np.array([row[2] for row in rows], dtype=np.float64),
        keypoints=np.array([row[3] for row in rows], dtype=np.float64).reshape(len(rows), -1, 2),
        confidence=np.array([row[4] for row in rows], dtype=np.float64).reshape(len(rows), -1),
        n_frames=np.int64(n_frames),
        size=np.array(size, dtype=np.int64),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
