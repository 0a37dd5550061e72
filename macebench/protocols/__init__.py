"""Built-in protocols: one YAML file each."""
