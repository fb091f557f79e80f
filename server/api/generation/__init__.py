"""Generating models on the wire: what is asked of them, their answers as they grow, in OpenAI's and Triton's forms."""
