"""Learning-rate schedules: factors that scale the learning rate of every group, step by step."""
