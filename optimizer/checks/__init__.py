"""Gates between the original model and the exported one."""
