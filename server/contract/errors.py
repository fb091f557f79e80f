"""The one exception of the contract: what is wrong with a file, where, and what to change."""


class ContractError(ValueError):
    """A file of the model repository that must be refused; the message names file, field and remedy."""
