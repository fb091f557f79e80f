"""`python onnx_graph.py INPUT OUTPUT [--outputs NAME,…]`: the same model without notes on shapes inside, and with these outputs only.

The notes of torch's exporter keep ONNX Runtime's quantization from transposing a Gemm's weights: it infers other shapes, and gives up.
"""

from __future__ import annotations

import argparse

import onnx


def main() -> None:
    """Write OUTPUT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--outputs", default="")
    options = parser.parse_args()
    model = onnx.load(options.input)
    del model.graph.value_info[:]
    if options.outputs:
        wanted = options.outputs.split(",")
        kept = [one for one in model.graph.output if one.name in wanted]
        if len(kept) != len(wanted):
            raise SystemExit(f"{options.input} has the outputs {[one.name for one in model.graph.output]}, not {wanted}")
        del model.graph.output[:]
        model.graph.output.extend(kept)
    onnx.save(model, options.output)


if __name__ == "__main__":
    main()
