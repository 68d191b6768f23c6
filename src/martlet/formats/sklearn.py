"""scikit-learn's models: skops by default; pickle and joblib when trusted, in another process."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats import Format, LoadOptions, archives, older_sklearn, pickles
from martlet.formats.estimator import EstimatorServable, parts
from martlet.formats.isolated import Isolated
from martlet.servable import Servable

# Types of scikit-learn that hold data alone, which skops asks the user about; those whose
# compiled code follows indices in their data are checked after loading.
_DATA = frozenset(
    {
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        *(
            f"sklearn.gaussian_process.kernels.{name}"
            for name in ("ConstantKernel", "Matern", "Product", "RBF", "Sum", "WhiteKernel")
        ),
    }
)


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open a skops file here, or a pickle that the user trusts in a process of its own.

    Raises:
        UnsupportedModel: a pickle that is not trusted, types that skops does not trust, damage.
    """
    if zipfile.is_zipfile(path):
        return EstimatorServable(_skops(path, options))
    if not options.trusted:
        raise UnsupportedModel(
            f"{path} is a pickle, which can run any code when it is opened: save the model with "
            "skops or convert it to ONNX, or load it with trusted=True (--trusted) if you made it"
        )
    return Isolated("martlet.formats.sklearn:open_pickle", path, options)


def open_pickle(path: Path, options: LoadOptions) -> Servable:
    """Unpickle the model at *path*: in the isolated process alone, for it can run any code."""
    model = _unpickled(path)
    warnings.simplefilter("ignore")
    return EstimatorServable(model)


def estimator_at(path: Path, trusted: bool) -> Any:
    """
    Return the estimator itself, for a converter; call it in a process that may be lost.

    Raises:
        UnsupportedModel: as ``load``.
    """
    if zipfile.is_zipfile(path):
        return _skops(path, LoadOptions(trusted=trusted))
    if not trusted:
        raise UnsupportedModel(f"{path} is a pickle, which is opened only when trusted")
    return _unpickled(path)


def _unpickled(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another version: what differs shows on the probe
        try:
            return older_sklearn.load(path)
        except Exception as exc:
            raise UnsupportedModel(
                f"{path} does not unpickle with the libraries installed here "
                f"({type(exc).__name__}: {exc}): install the version that wrote it, or save it "
                "with skops or ONNX"
            ) from exc


def _skops(path: Path, options: LoadOptions) -> Any:
    import skops.io

    archives.check(path)
    try:
        unknown = set(skops.io.get_untrusted_types(file=path))
        refused = sorted(unknown - _DATA)
        if refused and not options.trusted:
            raise UnsupportedModel(
                f"{path} holds types that are not known to be data alone: {', '.join(refused)}; "
                "load it with trusted=True (--trusted) if you made it"
            )
        model = skops.io.load(path, trusted=sorted(unknown))
        check_trees(model)
    except UnsupportedModel:
        raise
    except Exception as exc:  # of skops, zipfile, json and numpy, on a damaged file
        raise UnsupportedModel(f"{path} is not a skops file that loads: {exc!r}") from exc
    return model


def check_trees(model: Any) -> None:
    """
    Check that the compiled trees in *model* are trees: their code follows any index.

    Raises:
        ValueError: one is not.
    """
    for part in parts(model):
        for tree in [part, *vars(part).values()]:
            if type(tree).__name__ == "Tree":
                _check_tree(tree.children_left, tree.children_right, tree.feature, tree.n_features)
            elif type(tree).__name__ == "TreePredictor":
                nodes = tree.nodes
                inner = nodes["is_leaf"] == 0
                left = np.where(inner, nodes["left"].astype(np.int64), -1)
                right = np.where(inner, nodes["right"].astype(np.int64), -1)
                _check_tree(left, right, np.where(inner, nodes["feature_idx"], 0), 2**31)


def _check_tree(left: Any, right: Any, feature: Any, features: int) -> None:
    order = np.arange(len(left))
    inner = left != -1
    for child in (left, right):
        # Children come after their parent, so no path can close.
        if np.any(inner & ((child <= order) | (child >= len(left)))):
            raise ValueError("a tree's children are not those of a tree")
    if np.any(inner & ((feature < 0) | (feature >= features))):
        raise ValueError("a tree splits on a feature that is not there")


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    names = archives.members(path)
    if names:
        return "schema.json" in names
    return bool(pickles.imports(path))


FORMAT = Format(
    name="sklearn",
    suffixes=(".skops", ".joblib", ".pkl", ".pickle"),
    sniff=_sniff,
    load=load,
    extra="sklearn",
)
