"""The CPU engine of our own: VGG's 3 × 3 convolutions by Winograd's minimal filtering, on all cores.

    from features.engines.winograd.engine import WinogradEngine     # what `create.py` does: the only door
    python -m benchmarks.engines                                    # against torch, on this machine
    python -m pytest tests/features/engines/winograd                # against direct convolution

What is computed, for each tile of 4 × 4 outputs: the 6 × 6 inputs around it become 36 numbers a
channel, these are multiplied point by point with the weights' own 36 and summed over the channels
(a matrix product for each of the 36 points), and 4 × 4 outputs come back; then bias, ReLU, and often
the 2 × 2 pooling. A quarter of a direct convolution's multiplications. Read in this order:

| module | what is in it | needs numba |
| --- | --- | --- |
| `reference.py` | **the whole algorithm in ten lines of NumPy**, against which the rest is tested | |
| `transforms.py` | its three matrices, and why these six points | |
| `engine.py` | the engine: pieces of a batch, threads, tapped layers, then the dense layers | yes |
| `plan.py` | the network's steps → operations → tasks that may run side by side | yes |
| `memory.py` | the arrays, **drawn**: who writes and who reads them, which thread owns what | yes |
| `filters.py` | the weights, transformed and laid out when the engine is loaded | yes |
| `kernels.py` | one task: loops over tiles, compiled | yes |
| `simd.py` | the three innermost steps, generated for this CPU | yes |
| `vectors.py` | how vector instructions are written | yes |

`transforms.py` imports none of the others, and of these each only what stands below it. In a forward,
`engine.py` cuts a batch into pieces that the planes hold; for each operation of the plan in turn, all
threads take its tasks; `kernels.convolve` has all tiles of a task transformed, multiplied, transformed
back. The last activation of all pieces goes to `features/engines/dense.py` (torch) or `light.py` (NumPy).

Nothing here is needed. **Without numba, `extract.engine: auto` takes `features/engines/pytorch.py`**,
slower and otherwise the same to its users, and says so (`choice.py`); `extract.engine: torch` asks for
it. The numbers are kept under `winograd-fp32/1`: where a change here changes a bit, `REVISIONS` in
`choice.py` goes up.

References
----------
Winograd, Arithmetic Complexity of Computations, SIAM, 1980.
Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks, arXiv:1803.10986.
Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008.
"""
