"""TrainingSweep: many training runs as one object."""
