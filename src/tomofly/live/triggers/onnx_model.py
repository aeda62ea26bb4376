"""What an ONNX model makes of a picture."""

import math
from typing import Any

import numpy as np

from tomofly.live.triggers.observation import FloatImage, Measured
from tomofly.live.triggers.settings import OnnxMeasure
from tomofly.model import TomoflyError


class OnnxModel:
    """A model run on the processor by onnxruntime, which the extra `onnx` brings."""

    def __init__(self, settings: OnnxMeasure) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise TomoflyError(
                "ONNX models need onnxruntime, which is not installed", "pip install 'tomofly[onnx]'"
            ) from error
        self._settings = settings
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(settings.model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own kinds have no common base
            raise TomoflyError(f"{settings.model} cannot be used as an ONNX model: {error}") from error
        outputs = [each.name for each in self._session.get_outputs()]
        self._output = settings.output or outputs[0]
        if self._output not in outputs:
            raise TomoflyError(
                f"{settings.model} has no output '{self._output}'", f"It has: {', '.join(outputs)}"
            )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: FloatImage) -> Measured:
        """Run the model on a picture (rows, columns), brought to mean 0 and deviation 1."""
        spread = float(image.std(dtype=np.float64))
        if not math.isfinite(spread) or spread == 0.0:
            return Measured(math.nan)
        given = ((image - image.mean(dtype=np.float64)) / spread).astype(np.float32)[None, None]
        (made,) = self._session.run([self._output], {self._input: given})
        return self._measured(np.asarray(made), image.shape)

    def _measured(self, made: "np.ndarray[Any, Any]", shape: tuple[int, ...]) -> Measured:
        if made.ndim >= 2:
            if self._settings.channel >= made.shape[1]:
                raise ValueError(
                    f"the model gives {made.shape[1]} channels, not {self._settings.channel + 1}"
                )
            made = made[0, self._settings.channel]
        if self._settings.quantity == "area":
            mask = made > self._settings.above
            return Measured(float(mask.sum()), mask if mask.shape == shape else None)
        return Measured(float(made.mean() if self._settings.quantity == "mean" else made.max()))
