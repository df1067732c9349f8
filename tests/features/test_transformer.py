"""A store as scikit-learn's tools take it: scikit-learn's own checks, searches, names, notebooks."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from features.errors import BadInput
from features.publish import Shards
from features.store import FeatureStore
from tests.features.test_publish import published

# Checks of `check_estimator` that fit or transform a matrix of random fractions, (20, 3) say. X is here one
# column, of row numbers or ids, and `transform` refuses anything else: that is what is wanted.
OF_MATRICES = {
    "check_complex_data", "check_dict_unchanged", "check_dtype_object", "check_estimators_dtypes",
    "check_estimators_pickle", "check_f_contiguous_array_estimator", "check_fit2d_predict1d",
    "check_fit_idempotent", "check_fit_score_takes_y", "check_methods_sample_order_invariance",
    "check_methods_subset_invariance", "check_n_features_in", "check_n_features_in_after_fitting",
    "check_pipeline_consistency", "check_transformer_data_not_an_array", "check_transformer_general",
    "check_transformer_preserve_dtypes", "check_transformers_unfitted_stateless",
}  # fmt: skip
# Checks that `fit` refuses what it cannot learn from: it learns nothing, and opens the store whatever X is.
OF_LEARNING = {
    "check_estimator_sparse_tag", "check_estimators_empty_data_messages", "check_estimators_nan_inf",
    "check_fit1d",
}  # fmt: skip


CONTRACT = {
    "check_do_not_raise_errors_in_init_or_set_params", "check_dont_overwrite_parameters",
    "check_estimator_cloneable", "check_estimator_repr", "check_estimators_fit_returns_self",
    "check_get_params_invariance", "check_no_attributes_set_in_init",
    "check_parameters_default_constructible", "check_set_params", "check_valid_tag_types",
}  # fmt: skip


class OfMatrices(FeatureStore):
    """Says that it takes matrices: otherwise scikit-learn checks nothing."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two layers of the same images: in `fc7` the classes are apart, in `fc6` they are not."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "artifacts" / "features"
    apart = np.arange(30)[:, None] % 2 * 4 + rng.normal(size=(30, 6))
    for layer, rows in (("fc6", rng.normal(size=(30, 4))), ("fc7", apart)):
        published(folder, rows.astype(np.float16), Shards(8, 2), stem=layer)
    return tmp_path


def test_the_checks_of_scikit_learn(project: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimator OfMatrices does not inherit from", UserWarning)
        found = check_estimator(OfMatrices("fc7", project), on_fail=None, on_skip=None)
    passed, failed = (
        {check["check_name"] for check in found if check["status"] == status}
        for status in ("passed", "failed")
    )
    assert failed <= OF_MATRICES | OF_LEARNING
    assert passed >= CONTRACT


def test_parameters_that_are_none_are_refused_as_by_scikit_learn(project: Path) -> None:
    store = FeatureStore("fc7", project)
    for wrong in ({"layerr": "fc6"}, {"layer__x": 1}, {"view": 1, "foo": 2}):
        with pytest.raises(
            ValueError, match=r"Invalid parameter '.*' for estimator FeatureStore\(layer='fc7'"
        ):
            store.set_params(**wrong)
    assert store.get_params() == {"layer": "fc7", "project": project, "view": 0}
    pipeline = make_pipeline(store, LogisticRegression())
    with pytest.raises(ValueError, match="Invalid parameter 'layerr'"):
        GridSearchCV(pipeline, {"featurestore__layerr": ["fc6"]}, cv=2).fit(np.arange(30), np.arange(30) % 2)


def test_a_search_chooses_the_layer(project: Path) -> None:
    pipeline = make_pipeline(FeatureStore("fc6", project), LogisticRegression())
    search = GridSearchCV(pipeline, {"featurestore__layer": ["fc6", "fc7"]}, cv=3, error_score="raise")
    y = FeatureStore("fc7", project).labels
    assert search.fit(np.arange(30), y).best_params_ == {"featurestore__layer": "fc7"}
    assert search.score(np.arange(30), y) > 0.9


def test_another_layer_is_another_store(project: Path) -> None:
    store = FeatureStore("fc6", project).fit()
    assert store.fit_transform([0, -1]).shape == (2, 4)
    assert store.set_params(layer="fc7").transform([0, -1]).shape == (2, 6)
    store.layer = "fc6"
    assert store.transform([0]).shape == (1, 4)
    assert len(store.ids) == 30
    assert store.n_features_in_ == 1


def test_names_and_what_is_shown(project: Path) -> None:
    store = FeatureStore("fc7", project, view=0)
    pipeline: Pipeline = make_pipeline(store)
    assert list(pipeline.fit(np.arange(3)).get_feature_names_out()) == [f"fc7_{k}" for k in range(6)]
    assert repr(FeatureStore("fc7")) == "FeatureStore(layer='fc7')"
    assert repr(clone(FeatureStore("fc7", view=2))) == "FeatureStore(layer='fc7', view=2)"
    assert "FeatureStore" in store._repr_html_()
    assert "FeatureStore" in make_pipeline(store, LogisticRegression())._repr_html_()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((4, 2), int), "rows are asked for by"),
        (np.array([0.0, 1.0]), "float64"),
        (np.array([True, False]), "not bools"),
        (np.array([30]), "has rows 0 to 29; asked were 30 to 30"),
        (np.array(["00000", "none"]), "no image 'none'"),
        (3, "rows are asked for by"),
    ],
)
def test_what_is_no_column_of_rows_or_ids_is_refused(project: Path, wrong: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        FeatureStore("fc7", project).fit_transform(wrong)
