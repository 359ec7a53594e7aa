"""Moving in from MMDetection: its configs become typed experiments, its checkpoints load.

Nothing here needs MMDetection, mmcv or mmengine to be installed.
"""
