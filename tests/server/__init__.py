"""Mirror of the package. `server/contract` and `server/core` are covered in full, branches included:

pytest tests/server/contract tests/server/core --cov=server/contract --cov=server/core --cov-branch --cov-fail-under=100
"""
