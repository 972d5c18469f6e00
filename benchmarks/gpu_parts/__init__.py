"""The parts of `gpu.py`. Each module has `run(sheet, names)`, at full size on a GPU, else tiny."""
