"""Who answers a model's name, version or label, and what TensorFlow Serving says when nobody does.

Source: tensorflow_serving/model_servers/server_core.cc, core/basic_manager.cc.
"""

from __future__ import annotations

from martlet.errors import InvalidInput, MartletError, ModelNotFound, NotAvailable
from martlet.names import ModelRef
from martlet.servable import Servable
from martlet.serving.engine import Engine
from martlet.serving.traffic import Variant


def acquire(engine: Engine, ref: ModelRef) -> Variant[Servable]:
    """
    Take a lease on the variant that *ref* names; the caller must ``release`` it.

    Raises:
        ModelNotFound, InvalidInput: nobody answers to it, in upstream's words.
        NotAvailable: it is being replaced.
    """
    try:
        return engine.acquire(ref)
    except ModelNotFound:
        raise unknown(ref) from None
    except NotAvailable:
        # Known, but nothing of it answers yet: upstream's clients wait for the same words.
        model = engine.table.models.get(ref.name)
        if model is None or not model.variants:
            raise unknown(ref) from None
        raise


def unknown(ref: ModelRef) -> MartletError:
    """Return what upstream says of a name, version or label that nobody answers to."""
    if ref.label is not None:
        return InvalidInput(f"Unrecognized servable version label: {ref.label}")
    which = "Latest" if ref.version is None else "Specific"
    version = "" if ref.version is None else f", {ref.version}"
    return ModelNotFound(f"Servable not found for request: {which}({ref.name}{version})")
