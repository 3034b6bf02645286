"""Labels that no model was trained on: by entailment, where a model judges that, else by the nearest vector."""
