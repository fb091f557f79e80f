"""Why a model file does not become a version."""


class IntakeError(ValueError):
    """The file cannot be served as it is; the message names the tensor or the figure, and the remedy."""
