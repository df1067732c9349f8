"""Linear heads, solved to a certified distance from their minimum along a whole path of C.

    LogReg.path(X, y, {"C": [0.1, 1.0]})         # `estimators`: scikit-learn's interface
    solve(X, y, 10, [0.1, 1.0], weights, …)      # `path`: class numbers, and a weight for each row
    minimum(X, y, C=1.0, loss="softmax")         # `reference`: the same from SciPy, slowly

What is minimised, for every C:

    F(W, b) = ½‖W‖² + C Σᵢ weightsᵢ · loss(W xᵢ + b, yᵢ)

- `softmax`: loss = log Σⱼ exp(sⱼ − s_y), all classes in one problem; b is free.
- `squared hinge`: loss = max(0, 1 − m)², m = ±s, each class against the rest in a problem of its own; b is
  the weight of a feature that is always 1, so that ½‖b‖² is part of F.

F is 1-strongly convex in W: where b is the best one, F is at most ½‖∇F‖² above its minimum. By that every
method stops, and by that each head is certified.

In the order in which a path runs through them:

1. `estimators`: `LogReg` and `LinearSVM`, which turn labels, views and class weights into numbers.
2. `path`: `solve`, the whole of it from top to bottom.
3. `schedule`: which C is solved when, how many side by side, for how many iterations.
4. `choose_space`: `row_space` (w = Xᵀ a, on the Gram matrix) or `weight_space` (w itself); `space` says what
   both answer. No other module multiplies with the features but the certificate.
5. `warm_start`: where the next C starts, from those that are solved.
6. `solver`: which method on which `problems`, in float32 or float64.
7. `conjugate_gradients`, the rule, and `newton`, for the hinge with few rows short of their margin. Both
   stand on `losses` and on `line_search`.
8. `finish`: weights as they are kept, each with its `certificate`; what falls short is solved on.

Symbols
-------
Types are the space's (float32, or float64 once that is needed) where none is said. Features have no unit;
losses are in nats for the softmax, squared margins for the hinge.

====================  ==================  ==============================================================
n, d                                      rows (images × views), features
X                     (n, d) float32      features as they are given; may be a mapped file
x                     (d,)                a row of X
y, labels             (n,) int64          class numbers, from 0
C                     (P,) float64        inverse strength of the penalty; multiplies a sum, not a mean
weights               (n,) float64        what each row's loss counts: class weight / views
P                                         problems side by side: values of C; of the hinge, C × classes
k                                         columns of one problem: classes; of the hinge 1
w, W                  (d,), (k, P, d)     weights of the features: a column, all of them
b, intercept          (k, P)              intercepts
a                     (n,)                coefficients of the rows, w = Xᵀ a
K, gram               (n, n)              X Xᵀ, of centred rows; the hinge's not centred, plus 1
v                     (k, P, size)        columns as a space keeps them: a (size n), w (d or d + 1)
s, scores             (k, P, n)           X w + b
Z                     (k, P, n)           relative scores: s − s_y of the softmax, margins m of the hinge
m, margins            (1, P, n)           s for the column's own class, −s for the rest; short below 1
E                     (k, P, n)           gradient of weights · loss with respect to Z
raw                   (k, P, n)           the same with respect to s
A                     (k, P, n)           C · raw: a point of the dual problem
g, gradient           (k, P, size), …     ∇F; its `step` is what the preconditioner makes of it
stiffness, curvature  (k, P)              C Σ weights · loss″, by a column's own score
t                     (P,)                how far to go along a direction; dZ is what Z changes by for t = 1
slope                 (P,)                derivative along a direction, with respect to t
value                 (P,)                Σ weights · loss, without C
square                (P,)                ‖W‖²
F, objective          (P,)                square / 2 + C · value
gap                   (P,) float64        how far F is above its minimum at most, relative to it
tolerance, tol                            of the gap: what has to be reached; 1e-4 by default
aim                                       of the gap: what is descended to, a share of the tolerance
single                (P,) bool           kept in float32
exact                 (P,) bool           solved in float64
u, UNIT                                   2⁻⁵³, unit roundoff of float64
====================  ==================  ==============================================================

Constants
---------
Each stands where it is used, with what it came from. *Counted* means: on the stand-in of
`benchmarks.cached`, 800 × 4,096, rows of length 1, 10 classes, 45 values of C from 1e-6 to 1e5, tolerance
1e-4; products are with the features or the Gram matrix, for one column of one C, on average. Real features
are in docs/performance.md. Another value is another start or another end of a descent: heads stay within
their tolerance, but change their bits.

References
----------
Boyd and Vandenberghe, Convex Optimization (2004), 9.1.2: the bound by strong convexity; 5.5.1: by the dual.
Polak and Ribière 1969; Gilbert and Nocedal, SIAM J. Optim. 2 (1992): conjugate gradients.
Keerthi and DeCoste, JMLR 6 (2005): Newton's method for the squared hinge.
Fan et al., LIBLINEAR, JMLR 9 (2008): the objectives, which are scikit-learn's.
Halko, Martinsson and Tropp, SIAM Review 53 (2011): eigenvectors from a sketch.
"""
