"""The one training loop, arch schedules, distillation, augmentation, recalibration."""
