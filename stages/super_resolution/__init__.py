"""From thick slices to thin ones.

Purpose: train networks that restore thin slices, and restore volumes with them or with the
training-free baselines. Inputs: volumes (HU, NIfTI), a prepared manifest. Outputs: MODEL_DIR
(safetensors, model.json, model card), restored volumes. Principal reference: Liu et al., Future
Generation Computer Systems 159 (2024) 474-488.
"""
