"""The steps of a run: each reads only its inputs and writes only its scratch folder."""
