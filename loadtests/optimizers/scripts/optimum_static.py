"""`python optimum_static.py MODEL ROWS.npz FOLDER`: Optimum's static int8 for AVX-512 VNNI, as its guide does it: ranges by minima and maxima.

Its command line has no static quantization.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from datasets import Dataset
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig


def main(model: Path, rows: Path, folder: Path) -> None:
    """Write `folder`/model_quantized.onnx. `rows`: each input as an array [n, …]."""
    known = np.load(rows)
    dataset = Dataset.from_dict({name: list(known[name]) for name in known.files})
    dataset.set_format("np")
    quantizer = ORTQuantizer(model)
    wanted = AutoQuantizationConfig.avx512_vnni(is_static=True)
    ranges = quantizer.fit(
        dataset=dataset,
        calibration_config=AutoCalibrationConfig.minmax(dataset),
        operators_to_quantize=wanted.operators_to_quantize,
        onnx_augmented_model_name=str(folder / "augmented.onnx"),
    )
    quantizer.quantize(save_dir=folder, quantization_config=wanted, calibration_tensors_range=ranges)


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:]))
