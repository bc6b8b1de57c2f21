"""What `python -m hybridnet.benchmark` measures: speed, memory and the feeding of models, one against another."""
