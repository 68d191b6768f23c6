"""scikit-learn's models: skops by default; pickle and joblib when trusted, in another process."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel, brief
from martlet.formats import LoadOptions, archives
from martlet.formats.isolated.servable import Isolated
from martlet.formats.sklearn import older, older_skops
from martlet.formats.sklearn.columns import parts
from martlet.formats.sklearn.estimator import EstimatorServable
from martlet.servable import Servable

# Classes of scikit-learn: an object of one is made without calling it, and is data alone. Those
# whose compiled code follows indices in their data are checked after loading.
_CLASS = re.compile(
    r"sklearn\.(_loss|calibration|cluster|compose|covariance|cross_decomposition|decomposition"
    r"|discriminant_analysis|dummy|ensemble|feature_extraction|feature_selection|gaussian_process"
    r"|impute|isotonic|kernel_approximation|kernel_ridge|linear_model|manifold|metrics|mixture"
    r"|model_selection|multiclass|multioutput|naive_bayes|neighbors|neural_network|pipeline"
    r"|preprocessing|random_projection|semi_supervised|svm|tree)(\.\w+)*\._?[A-Z]\w*"
)
# Functions that compute of arrays and nothing else, and what binds arguments to one of them.
_FUNCTION = re.compile(
    r"sklearn\.(metrics\.pairwise|feature_selection\._(univariate_selection|mutual_info))\.\w+"
    r"|sklearn\.utils\.(validation\.check_array|_bunch\.Bunch)|functools\.partial"
    r"|sklearn\.compose\._column_transformer\.make_column_selector"
    r"|sklearn\.utils\._metadata_requests\.(Method)?MetadataRequest|builtins\.object"
    r"|sklearn\.cluster\._kmeans\._kmeans_single_(elkan|lloyd)"
    r"|scipy\.sparse\._(bsr|coo|csc|csr|dia|dok|lil)\.\w+_(array|matrix)"
    r"|numpy\.ma(\.core)?\.MaskedArray|numpy\.(amax|amin|max|mean|median|min|sum)"
)
_UFUNC = re.compile(r"numpy\.(_?core\._multiarray_umath\.)?(\w+)")


def _is_data(name: str) -> bool:
    """Return whether what skops calls *name* can do nothing but compute."""
    scalar = getattr(np, name.removeprefix("numpy."), None) if name.startswith("numpy.") else None
    if isinstance(scalar, type) and issubclass(scalar, np.generic | np.dtype):
        return True
    ufunc = _UFUNC.fullmatch(name)
    if ufunc is not None and isinstance(getattr(np, ufunc[2], None), np.ufunc):
        return True
    return bool(_CLASS.fullmatch(name) or _FUNCTION.fullmatch(name))


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open a skops file here, or a pickle that the user trusts in a process of its own.

    Raises:
        UnsupportedModel: a pickle that is not trusted, types that skops does not trust, damage.
    """
    if archives.is_archive(path):
        return EstimatorServable(_skops(path, options))
    if not options.trusted:
        raise UnsupportedModel(
            f"{path} is a pickle, which can run any code when it is opened: save the model with "
            "skops or convert it to ONNX, or load it with trusted=True (--trusted) if you made it"
        )
    return Isolated("martlet.formats.sklearn.file:open_pickle", path, options)


def open_pickle(path: Path, options: LoadOptions) -> Servable:
    """Unpickle the model at *path*: in the isolated process alone, for it can run any code."""
    model = _unpickled(path)
    warnings.simplefilter("ignore")
    return EstimatorServable(model, alone=True)


def estimator_at(path: Path, trusted: bool) -> Any:
    """
    Return the estimator itself, for a converter; call it in a process that may be lost.

    Raises:
        UnsupportedModel: as ``load``.
    """
    if archives.is_archive(path):
        return _skops(path, LoadOptions(trusted=trusted))
    if not trusted:
        raise UnsupportedModel(f"{path} is a pickle, which is opened only when trusted")
    return _unpickled(path)


def _unpickled(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another version: what differs shows on the probe
        try:
            return older.load(path)
        except UnsupportedModel as exc:
            raise UnsupportedModel(f"{path} {exc}") from exc
        except ModuleNotFoundError as exc:
            raise UnsupportedModel(
                f"{path} holds objects of the module {exc.name!r}, which is not here: install the "
                "package that has it, in the version that wrote the file"
            ) from exc
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
        file: Any = older_skops.current(path)  # skops takes what zipfile takes
        unknown = set(skops.io.get_untrusted_types(file=file))
        refused = sorted(name for name in unknown if not _is_data(name))
        if refused and not options.trusted:
            raise UnsupportedModel(
                f"{path} holds types that are not known to be data alone: {', '.join(refused)}; "
                "load it with trusted=True (--trusted) if you made it"
            )
        model = older.as_written(lambda: skops.io.load(file, trusted=sorted(unknown)))
        check_trees(model)
    except UnsupportedModel:
        raise
    except Exception as exc:  # of skops, zipfile, json and numpy, on a damaged file
        raise UnsupportedModel(f"{path} is not a skops file that loads: {brief(exc)}") from exc
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
            elif type(tree).__name__.startswith(("KDTree", "BallTree")):
                _check_neighbours(tree)


def _check_tree(left: Any, right: Any, feature: Any, features: int) -> None:
    order = np.arange(len(left))
    inner = left != -1
    for child in (left, right):
        # Children come after their parent, so no path can close.
        if np.any(inner & ((child <= order) | (child >= len(left)))):
            raise ValueError("a tree's children are not those of a tree")
    if np.any(inner & ((feature < 0) | (feature >= features))):
        raise ValueError("a tree splits on a feature that is not there")


def _check_neighbours(tree: Any) -> None:
    data, order, nodes, bounds = map(np.asarray, tree.get_arrays())
    inner = nodes["is_leaf"] == 0
    low, high = nodes["idx_start"], nodes["idx_end"]
    if (
        np.any((order < 0) | (order >= len(data)))
        or np.any((low < 0) | (high < low) | (high > len(order)))
        or np.any(2 * np.flatnonzero(inner) + 2 >= len(nodes))  # node i's children
        or bounds.shape[-2:] != (len(nodes), data.shape[1])
    ):
        raise ValueError("a tree of neighbours points outside itself")
