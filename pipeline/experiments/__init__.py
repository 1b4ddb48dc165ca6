"""The paper's experiments beyond training stage by stage, one module each; `commands` has their command lines."""
