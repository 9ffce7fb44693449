"""The Trainyard operator: it turns TrainingJobs into gangs of pods and keeps them training."""
