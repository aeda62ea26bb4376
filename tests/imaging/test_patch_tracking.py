"""Patches lead each other, but none may mislead the rest."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tests.imaging.moving_scenes import moving_scene
from tomofly.imaging import patch_tracking
from tomofly.imaging.frame_spectra import area_spectra

BFACTOR_PX2 = 50.0


def test_contamination_in_one_patch_does_not_set_the_weights_of_the_others():
    scene = moving_scene((420, 400), n_frames=12, dose=2.0, drift=(0.4, -0.3), seed=3)
    frames = scene.frames.astype(np.float32)
    parts = [frames[:, y : y + 140, x : x + 133].copy() for y in (0, 140, 280) for x in (0, 133, 266)]
    y, x = np.ogrid[:140, :133]
    blob = 40 * np.exp(-((y - 70) ** 2 + (x - 66) ** 2) / (2 * 25.0**2)).astype(np.float32)
    with ThreadPoolExecutor(1) as pool:
        clean, dirty = (
            patch_tracking._newton_steps([area_spectra(part) for part in taken], BFACTOR_PX2, pool)
            for taken in (parts, [parts[0] + blob, *parts[1:]])
        )
    changed = np.sqrt(np.mean((dirty - clean)[1:] ** 2))
    assert changed < 0.25 * np.sqrt(np.mean(clean[1:] ** 2))
