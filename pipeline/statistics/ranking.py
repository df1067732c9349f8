"""Which of several is better, and which of equals: the same for heads, epochs, hyper-parameters and cuts.

    best = max(trials, key=lambda trial: rank(trial.score, trial.log_loss))

The score of validation rows comes first (`tuning.score`), then their log-loss. What is equal in both
is a tie, and goes to the simpler: within a head as `Head.complexity` orders its points, among heads in
the order of `SIMPLEST`. Heads tie where images are few, and then a hundredth of a nat is chance: the
nearest neighbours, whose votes are all alike, would win most often and be the worse for it.
"""

TIED = 4  # decimals of the log-loss, in nats, that tell among points and epochs of one method
TIED_METHODS = 1  # and among methods
SIMPLEST = ("majority", "logreg", "linear-svm", "rbf-svm", "mlp", "knn")  # knn last: it keeps all rows


def rank(score: float, log_loss: float) -> tuple[float, float]:
    """Higher is better; what comes out alike is a tie. A score is one number, whatever it is of."""
    return round(score, 9), -round(log_loss, TIED)


def rank_of_methods(score: float, log_loss: float) -> tuple[float, float]:
    """As `rank`, where the log-losses are of different heads or networks."""
    return round(score, 9), -round(log_loss, TIED_METHODS)


def simplicity(method: str) -> int:
    """Place of a method's head in `SIMPLEST`: lower is simpler; an ensemble comes after all."""
    head = method.rpartition(".")[2]
    return SIMPLEST.index(head) if head in SIMPLEST else len(SIMPLEST)
