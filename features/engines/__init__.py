"""Engines run a prefix of the network over a batch of images.

    engine = create(choose("auto", "auto", "auto"), layers, weights, preprocessing)
    rows = engine.run(batch)["fc7"]
    for rows in engine.stream(batches): ...      # in order; a GPU has several in flight

| module | what is in it |
| --- | --- |
| `choice.py` | which engine runs (`auto` is a rule of the device), and how exact each is |
| `create.py` | a choice → the engine |
| `base.py` | what every engine can do |
| `pytorch.py` | PyTorch on a CPU or on MPS: the plain one, and the slow one |
| `cuda.py` | PyTorch on a GPU, several batches in flight |
| `winograd/` | our own on a CPU, about three times as fast as PyTorch there |
| `dense.py`, `light.py` | what is behind its convolutions: by PyTorch; by NumPy, for answers at once |
"""
