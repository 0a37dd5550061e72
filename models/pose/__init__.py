"""Pose back ends: one file each, see `macebench.pose.PoseEstimator`."""
