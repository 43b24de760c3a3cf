"""Settings that every test shares."""

import torch

# The models of the tests are so small that a second thread costs more than it gives, and on a busy machine far more.
torch.set_num_threads(1)
