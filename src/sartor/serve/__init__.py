"""Running what was exported: predict.py classifies arrays, files and folders with a model file, without torch."""
