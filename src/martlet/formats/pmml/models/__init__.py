"""One file a model element; each gives ``compile_model(context) -> Model``."""
